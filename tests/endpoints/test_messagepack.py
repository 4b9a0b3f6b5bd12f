"""`bargein.v1.msgpack`: the same session in binary frames."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator

from bargein_protocol import AudioDelta
from bargein_server import Output, Turn
from live_server import WireKind, ask, counting, serving

SOUND = bytes(range(256)) * 8
AUDIO = {"output": {"rate": 24_000}}


async def speaking(turn: Turn) -> AsyncIterator[Output]:
    """Says a word, sounds, and tells data."""
    yield "word "
    yield AudioDelta(audio=SOUND, start_ms=0, duration_ms=42, text="word")
    yield turn.data("map", {"a": [1, 2.5, None, "b"], "long": 2**70})


PACKED = ("bargein.v1.msgpack",)


async def test_events_travel_in_binary_frames(wire: WireKind) -> None:
    """Audio arrives as the bytes that the agent gave, in a frame that is hardly longer."""
    async with serving(speaking, wire) as server, server.connect(PACKED) as client:
        assert client.socket.subprotocol == "bargein.v1.msgpack"
        await client.send({"type": "session.open", "audio": AUDIO})
        await ask(client)
        sound = await client.until("audio.delta")
        assert sound["audio"] == SOUND
        assert (await client.until("data"))["value"] == {"a": [1, 2.5, None, "b"], "long": float(2**70)}
        assert (await client.until("turn.ended"))["status"] == "completed"
        numbers = [frame["seq"] for frame in client.frames if frame.get("seq")]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_an_interrupt_is_answered_in_binary_frames(wire: WireKind) -> None:
    """The result and the end, and nothing of the turn after that."""
    async with serving(counting, wire) as server, server.connect(PACKED) as client:
        turn = await ask(client)
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert (await client.until("interrupt.result"))["outcome"] == "interrupted"
        assert (await client.until("turn.ended"))["turn_id"] == turn


async def test_the_log_is_told_in_the_codec_of_who_resumes(wire: WireKind) -> None:
    """Written as MessagePack, replayed as JSON with base64, and back: the same events each time."""
    async with serving(speaking, wire) as server:
        replays = []
        async with server.connect(PACKED) as client:
            await client.send({"type": "session.open", "audio": AUDIO})
            opened = await client.receive()
            await ask(client)
            await client.until("turn.ended")
            written = [frame for frame in client.frames if frame.get("seq")]
        for codec in ("bargein.v1.json", "bargein.v1.msgpack"):
            async with server.connect((codec,)) as client:
                cursor = {"epoch": opened["epoch"], "seq": 0}
                resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
                await client.send({"type": "session.open", "resume": resume})
                opened = await client.receive()
                assert opened["resumed"]
                await client.until("replay.done")
                replays.append([frame for frame in client.frames if frame.get("seq")])
        as_json, packed = ([f for f in replay if f["type"] != "replay.done"] for replay in replays)
        assert packed == written
        for frame in as_json:
            if frame["type"] == "audio.delta":
                frame["audio"] = b64decode(frame["audio"], validate=True)
        assert as_json == written


async def test_a_text_frame_is_the_wrong_kind(wire: WireKind) -> None:
    """It gets `wrong_codec`, and the session lives on."""
    async with serving(speaking, wire) as server, server.connect(PACKED) as client:
        await client.send('{"type":"session.open"}')
        assert (await client.receive())["code"] == "wrong_codec"
        await ask(client)
