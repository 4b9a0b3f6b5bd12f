"""End to end: a real uvicorn, a real socket, and a client that knows only the protocol's text."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bargein_server import Output, Turn
from hostile_agents import yields_flat_out
from live_server import WireKind, ask, counting, echo, serving
from waiting import until


async def test_a_conversation(wire: WireKind) -> None:
    """Open, ask, receive, end; numbers without gaps; the subprotocol is the one that was asked for."""
    async with serving(echo, wire) as server, server.connect() as client:
        assert client.socket.subprotocol == "bargein.v1.json"
        await client.send({"type": "session.open", "client": {"name": "test"}})
        opened = await client.receive()
        assert (opened["type"], opened["resumed"]) == ("session.opened", False)
        turn = await ask(client, "hello")
        end = await client.until("turn.ended")
        assert (end["turn_id"], end["status"], end["heard"]["text"]) == (turn, "completed", "hello|[]")
        assert [frame["seq"] for frame in client.frames if "seq" in frame] == [1, 2, 3, 4, 5]


async def test_a_client_that_begins_with_an_input_gets_a_fresh_session(wire: WireKind) -> None:
    """And without a subprotocol it gets JSON."""
    async with serving(echo, wire) as server, server.connect(subprotocols=None) as client:
        assert client.socket.subprotocol is None
        await ask(client)
        assert client.frames[0]["type"] == "session.opened"


async def test_an_unknown_subprotocol_is_refused_before_the_upgrade(wire: WireKind) -> None:
    """HTTP 400."""
    async with serving(echo, wire) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with server.connect(subprotocols=["bargein.v9.xml"]):
                pass
    assert refused.value.response.status_code == 400


async def test_another_path_is_not_found(wire: WireKind) -> None:
    """HTTP 404: it is not a question of who asks."""
    async with serving(echo, wire) as server:
        for path in ("/", "/v1/sessions", "/v1/session/"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None):
                    pass
            assert refused.value.response.status_code == 404


async def test_an_interrupt_cuts_between_chunks_and_the_next_turn_knows_what_was_heard(
    wire: WireKind,
) -> None:
    """Result, end, and nothing of the turn after them; history holds the heard part."""
    seen: list[object] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen.append(turn.history.messages())
        async for output in counting(turn):
            yield output

    async with serving(agent, wire) as server, server.connect() as client:
        turn = await ask(client)
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn, "played": {"chars": 2}})
        result = await client.until("interrupt.result")
        assert result["outcome"] == "interrupted"
        end = await client.receive()
        assert (end["type"], end["status"], end["heard"]["text"]) == ("turn.ended", "interrupted", "1 ")
        await ask(client, "next", "i2")
        await client.until("text.delta")
        ended_at = client.frames.index(end)
        assert [frame for frame in client.frames[ended_at + 1 :] if frame.get("turn_id") == turn] == []
        assert seen[-1] == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "1 [interrupted]"},
            {"role": "user", "content": "next"},
        ]


async def test_the_end_does_not_wait_for_cleanup(wire: WireKind) -> None:
    """The agent's `finally` waits for an event that is set only after `turn.ended` arrived here."""
    ended, cleaned = asyncio.Event(), asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            async for output in counting(turn):
                yield output
        finally:
            await ended.wait()
            cleaned.set()

    async with serving(agent, wire) as server, server.connect() as client:
        turn = await ask(client)
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        assert not cleaned.is_set()
        ended.set()
        await until(cleaned.is_set)


async def test_an_agent_that_never_suspends_is_interrupted(wire: WireKind) -> None:
    """How often it yielded after the interrupt was sent is bounded, whatever the turn's length."""
    yielded = 0

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal yielded
        async for output in yields_flat_out(turn):
            yielded += 1
            yield output

    async with serving(agent, wire) as server, server.connect() as client:
        turn = await ask(client)
        await client.until("text.delta")
        before = yielded
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        assert yielded - before < 100_000
        stopped_at = yielded
        await ask(client, "again", "i2")
        await client.until("text.delta")
        assert yielded > stopped_at  # the next turn; the old one's task is gone
        assert len([task for task in asyncio.all_tasks() if turn in task.get_name()]) == 0


async def test_a_client_that_stops_reading_delays_no_interrupt(wire: WireKind) -> None:
    """Its buffers are full; a second interrupt, on another session, is answered at once all the same."""
    async with (
        serving(yields_flat_out, wire) as server,
        server.connect(max_queue=1) as stalled,
        server.connect() as other,
    ):
        await stalled.send({"type": "input.text", "id": "i", "text": "x"})
        turn = await ask(other)
        await other.until("text.delta")
        await other.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await other.until("turn.ended")
        await until(lambda: [live for live in server.sessions if live.core.full], "full buffers")
        [live] = [live for live in server.sessions if live.core.full]
        [task] = live.tasks()
        await stalled.send({"type": "interrupt", "id": "x", "input_id": "i"})
        await until(task.done, "the end of the stalled turn's task")
        end = await stalled.until("turn.ended")
        assert end["status"] == "interrupted"


async def test_resume_replays_what_was_missed(wire: WireKind) -> None:
    """The line is cut in mid-turn; nothing is lost, doubled or reordered."""
    async with serving(counting, wire) as server:
        async with server.connect() as client:
            await client.send({"type": "session.open"})
            opened = await client.receive()
            turn = await ask(client)
            for _ in range(5):
                last = await client.until("text.delta")
            client.socket.transport.abort()
        cursor = {"epoch": opened["epoch"], "seq": last["seq"]}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        async with server.connect() as client:
            await client.send({"type": "session.open", "resume": resume})
            again = await client.receive()
            assert (again["resumed"], again["turn_id"]) == (True, turn)
            assert again["token"] != opened["token"]
            await client.until("replay.done")
            for _ in range(5):
                await client.until("text.delta")
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
            end = await client.until("turn.ended")
            numbers = [frame["seq"] for frame in client.frames if "seq" in frame]
            assert numbers == list(range(cursor["seq"] + 1, end["seq"] + 1))


async def test_the_newest_connection_wins(wire: WireKind) -> None:
    """The older one is closed with 4409; the turn goes on."""
    async with serving(counting, wire) as server, server.connect() as old:
        await old.send({"type": "session.open"})
        opened = await old.receive()
        turn = await ask(old)
        cursor = {"epoch": opened["epoch"], "seq": 0}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        async with server.connect() as new:
            await new.send({"type": "session.open", "resume": resume})
            assert (await new.receive())["turn_id"] == turn
            await new.until("replay.done")
            await new.until("text.delta")
            with suppress(ConnectionClosed):
                while True:
                    await old.receive()
            assert await old.closed() == (4409, "a newer connection drives the session")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"token": "false"}, "bad_token"), ({"session_id": "s_none"}, "unknown_session")],
)
async def test_a_false_resume_gets_a_fresh_session(
    wire: WireKind, change: dict[str, str], reason: str
) -> None:
    """It says why, applies nothing of `pending`, and harms the real session not at all."""
    async with serving(counting, wire) as server, server.connect() as owner:
        await owner.send({"type": "session.open"})
        opened = await owner.receive()
        turn = await ask(owner)
        resume = {
            "session_id": opened["session_id"],
            "token": opened["token"],
            "cursor": {"epoch": opened["epoch"], "seq": 0},
            **change,
        }
        async with server.connect() as thief:
            pending = [{"type": "interrupt", "id": "x", "turn_id": turn}]
            await thief.send({"type": "session.open", "resume": resume, "pending": pending})
            refused = await thief.receive()
            assert (refused["resumed"], refused["reason"]) == (False, reason)
            assert refused["session_id"] != opened["session_id"]
            lost = await thief.receive()
            assert (lost["code"], lost["ref_id"]) == ("session_lost", "x")
        await owner.until("text.delta")


async def test_session_close_ends_the_turn_and_the_connection(wire: WireKind) -> None:
    """1000, after the end; the session cannot be resumed."""
    async with serving(counting, wire) as server, server.connect() as client:
        await ask(client)
        await client.send({"type": "session.close"})
        assert (await client.until("turn.ended"))["reason"] == "session_closed"
        assert (await client.closed())[0] == 1000
        assert len(server.sessions) == 0


async def test_shutdown_tells_every_client_how_its_turn_ended(wire: WireKind) -> None:
    """`goaway`; then `failed`, `shutdown`, retryable; then the connection is closed for a restart."""
    async with serving(counting, wire) as server, server.connect() as client:
        await ask(client)
        server.server.should_exit = True
        away = await client.until("goaway")
        assert away["reason"] == "shutdown"
        assert 0 <= away["reconnect_after_ms"] <= 1000
        end = await client.until("turn.ended")
        assert (end["status"], end["reason"], end["retryable"]) == ("failed", "shutdown", True)
        assert (await client.closed())[0] == 1012


async def test_a_turn_may_complete_while_the_server_drains(wire: WireKind) -> None:
    """It has `drain_s`; no new input is accepted meanwhile; the server stops as soon as nothing runs."""
    release = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "first "
        await release.wait()
        yield "last"

    async with serving(agent, wire, drain_s=100) as server, server.connect() as client:
        await ask(client)
        await client.until("text.delta")
        server.server.should_exit = True
        await client.until("goaway")
        await client.send({"type": "input.text", "id": "late", "text": "x"})
        assert (await client.until("input.rejected"))["code"] == "shutting_down"
        release.set()
        end = await client.until("turn.ended")
        assert (end["status"], end["heard"]["text"]) == ("completed", "first last")
        assert (await client.closed())[0] == 1012


async def test_a_connection_that_never_opens_is_closed(wire: WireKind) -> None:
    """4408 after `first_frame_s`."""
    async with serving(echo, wire, first_frame_s=0.05) as server, server.connect() as client:
        assert (await client.closed())[0] == 4408


async def test_on_the_transport_nothing_of_the_handshake_is_held(wire: WireKind) -> None:
    """The application has returned, with all it was given; on plain ASGI it waits for the end."""
    async with serving(echo, wire) as server, server.connect() as client:
        await ask(client)
        gc.collect()
        held = [thing for thing in gc.get_objects() if isinstance(thing, WebSocket)]
        assert (not held) is (wire == "transport")


async def test_fragments_and_control_frames_between_them_are_one_message(wire: WireKind) -> None:
    """RFC 6455 section 5.4."""
    async with serving(echo, wire) as server, server.connect() as client:
        text = json.dumps({"type": "input.text", "id": "i1", "text": "in pieces"})
        await client.socket.send([text[:10], text[10:20], text[20:]])
        await client.socket.ping()
        end = await client.until("turn.ended")
        assert end["heard"]["text"].startswith("in pieces|")


async def test_many_sessions_at_once_do_not_mix(wire: WireKind) -> None:
    """Each client receives only its own turns."""
    async with serving(echo, wire) as server:

        async def one(n: int) -> None:
            async with server.connect() as client:
                await ask(client, f"I am {n}")
                end = await client.until("turn.ended")
                assert end["heard"]["text"] == f"I am {n}|[]"

        await asyncio.gather(*(one(n) for n in range(30)))
