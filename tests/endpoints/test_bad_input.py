"""Bad input gets a coded error or a close code, and harms nobody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from bargein_server import Output, Turn
from live_server import WireKind, ask, echo, serving

HARMLESS: dict[str, tuple[str | bytes, str | tuple[str, ...]]] = {
    "broken JSON": ("{", "bad_frame"),
    "not an object": ("[1, 2]", "bad_event"),
    "no type": ("{}", "bad_event"),
    "unknown type": ('{"type": "no.such", "id": "q"}', "unknown_type"),
    "wrong type of a field": ('{"type": "input.text", "id": 7, "text": "x"}', "bad_event"),
    "missing field": ('{"type": "input.text", "id": "q"}', "bad_event"),
    "empty id": ('{"type": "ping", "id": ""}', "bad_event"),
    "long id": (json.dumps({"type": "ping", "id": "x" * 65}), "bad_event"),
    "deep nesting": ('{"type": "ping", "id": "q", "x": ' + "[" * 30_000 + "]" * 30_000 + "}", "bad_frame"),
    "deep metadata": (
        '{"type": "session.update", "metadata": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}}",
        ("bad_frame", "bad_event"),
    ),
    "huge number": ('{"type": "playback", "turn_id": "t", "seq": ' + "9" * 400 + "}", "bad_event"),
    "negative number": ('{"type": "playback", "turn_id": "t", "seq": -1}', "bad_event"),
    "lone surrogate": ('{"type": "ping", "id": "\\ud800"}', "bad_frame"),
    "binary on the JSON codec": (b'{"type": "ping", "id": "q"}', "wrong_codec"),
    "unknown turn": ('{"type": "turn.hold", "turn_id": "t_none"}', "unknown_turn"),
    "a second session.open": ('{"type": "session.open"}', "already_open"),
    "speech": ('{"type": "input.audio", "audio": "AAAA"}', "unsupported"),
    "a tool that nobody called": ('{"type": "tool.output", "call_id": "c", "output": 1}', "unknown_call"),
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_harmless_errors_are_answered_and_the_session_lives(wire: WireKind, name: str) -> None:
    """An `error` with its code; the next input works."""
    sent, codes = HARMLESS[name]
    async with serving(echo, wire) as server, server.connect() as client:
        await ask(client)
        await client.until("turn.ended")
        await client.send(sent)
        error = await client.receive()
        assert error["type"] == "error"
        assert error["code"] in codes
        assert "Traceback" not in error["message"]
        await ask(client, "still here", "i2")
        assert (await client.until("turn.ended"))["status"] == "completed"


async def test_an_interrupt_for_an_unknown_turn_is_answered(wire: WireKind) -> None:
    """It is no error: the answer says so."""
    async with serving(echo, wire) as server, server.connect() as client:
        await client.send({"type": "interrupt", "id": "x", "turn_id": "t_none"})
        assert (await client.until("interrupt.result"))["outcome"] == "unknown_turn"


async def test_garbage_before_the_session_is_answered_and_opens_none(wire: WireKind) -> None:
    """A scanner costs no session."""
    async with serving(echo, wire) as server, server.connect() as client:
        await client.send("GET / HTTP/1.1")
        assert (await client.receive())["code"] == "bad_frame"
        assert len(server.sessions) == 0
        await ask(client)


async def test_an_oversized_frame_closes_with_1009_and_spares_the_session(wire: WireKind) -> None:
    """One byte below the limit is read; the session can be resumed."""
    async with serving(echo, wire, max_frame_bytes=4096) as server:
        async with server.connect() as client:
            await client.send({"type": "session.open"})
            opened = await client.receive()
            frame = json.dumps({"type": "ping", "id": "p", "x": ""})
            await client.send(frame[:-2] + "y" * (4096 - len(frame)) + frame[-2:])
            assert (await client.receive())["type"] == "pong"
            await client.send(frame[:-2] + "y" * (4097 - len(frame)) + frame[-2:])
            assert (await client.closed())[0] == 1009
        cursor = {"epoch": opened["epoch"], "seq": 0}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        async with server.connect() as client:
            await client.send({"type": "session.open", "resume": resume})
            assert (await client.receive())["resumed"]


async def test_bad_utf8_closes_with_1007(wire: WireKind) -> None:
    """RFC 6455 section 8.1."""
    async with serving(echo, wire) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        await client.receive()
        await client.socket.send(b'{"type": "ping", "id": "\xff"}', text=True)
        assert (await client.closed())[0] == 1007


async def test_an_agents_error_text_reaches_nobody(wire: WireKind) -> None:
    """The client learns that the agent failed, not why."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield turn.status("x")
        raise RuntimeError("password=hunter2")

    async with serving(agent, wire) as server, server.connect() as client:
        await ask(client)
        end = await client.until("turn.ended")
        assert (end["status"], end["reason"]) == ("failed", "agent_error")
        assert "hunter2" not in json.dumps(client.frames)
