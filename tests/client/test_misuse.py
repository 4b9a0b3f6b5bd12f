"""Values that cannot be sent, other event loops, and defects: an error at the call, never silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bargein_client import ClientCore, ConnectError, ConnectionLost, connect
from bargein_client.session import ClientSession
from bargein_client.turn import ClientTurn
from bargein_client.websocket_channel import WebSocketChannel
from client_script import Surroundings
from live_server import counting, echo, serving

CODECS = ["json", "msgpack"]


def cycle() -> dict[str, Any]:
    """Return a value that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [object(), "\ud800", 2**70, 10**5000, {(1, 2): 3}, cycle()],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("codec", CODECS)
async def test_what_cannot_be_encoded_is_an_error_at_the_call(codec: Any, value: Any) -> None:
    """Nothing was sent, and the session goes on."""
    async with serving(echo) as server, connect(server.url, codec=codec) as session:
        with pytest.raises(TypeError, match="expected a value that JSON can hold"):
            session.send("hello", metadata={"value": value})
        with pytest.raises(TypeError, match="expected a value that JSON can hold"):
            session.update({"value": value})
        with pytest.raises(TypeError, match="expected a value that JSON can hold"):
            session.send_tool_output("c_1", value)
        assert session.turns == []
        assert (await session.send("hello").ended()).status == "completed"


@pytest.mark.parametrize("codec", CODECS)
async def test_a_value_that_changes_after_the_call_was_copied(codec: Any) -> None:
    """The values of the call are sent, now and after a reconnect."""
    async with serving(echo) as server, connect(server.url, codec=codec) as session:
        metadata: dict[str, Any] = {"list": [1]}
        session.update(metadata)
        turn = session.send("hello", metadata=metadata)
        metadata["list"].append(object())
        session.send_tool_output("c_1", metadata["list"][:1])
        metadata["other"] = object()
        assert (await turn.ended()).status == "completed"
        (host,) = server.sessions
        assert json.loads(json.dumps(host.view.metadata)) == {"list": [1]}


def test_the_core_keeps_no_reference_to_metadata() -> None:
    """A later change does not reach what a reconnect repeats."""
    core, metadata = ClientCore(), {"a": [1]}
    core.update(metadata)
    metadata["a"].append(2)
    assert core._outbox._metadata == {"a": [1]}


def requests() -> list[Callable[[ClientSession, ClientTurn], object]]:
    """Return every call of a session and a turn that needs the event loop."""
    return [
        lambda session, turn: session.send("other"),
        lambda session, turn: session.update({}),
        lambda session, turn: session.send_tool_output("c_1"),
        lambda session, turn: session.send_tool_decision("c_1", allow=True),
        lambda session, turn: session.interrupt(),
        lambda session, turn: session.events().__anext__(),
        lambda session, turn: session.closed(),
        lambda session, turn: session.close(),
        lambda session, turn: anext(turn),
        lambda session, turn: turn.ended(),
        lambda session, turn: turn.interrupt(),
        lambda session, turn: turn.hold(),
        lambda session, turn: turn.report_playback(chars=1),
    ]


@pytest.mark.parametrize("number", range(len(requests())))
async def test_another_event_loop_is_an_error(number: int) -> None:
    """Immediately, with the remedy; the session is not disturbed."""
    async with serving(counting) as server, connect(server.url) as session:
        turn = session.send("hello")
        await turn.accepted()
        while turn.text == "":
            await anext(turn)

        async def elsewhere() -> None:
            result = requests()[number](session, turn)
            while isinstance(result, Awaitable):  # buffered events first
                await asyncio.wait_for(result, 5)
                result = requests()[number](session, turn)

        with pytest.raises(RuntimeError, match="in the event loop of `connect`"):
            await asyncio.to_thread(asyncio.run, elsewhere())
        assert (await turn.interrupt()).outcome == "interrupted"


async def test_a_thread_without_a_loop_is_an_error() -> None:
    """The same error, with the remedy."""
    async with serving(echo) as server, connect(server.url) as session:
        with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(session.send, "hello")


async def test_a_defect_is_told_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the writing task ends the session; it was not closed."""

    async def failing(self: WebSocketChannel, event: object) -> None:
        raise LookupError("a defect")

    async with serving(echo) as server:
        async with connect(server.url) as session:
            monkeypatch.setattr(WebSocketChannel, "send", failing)
            turn = session.send("hello")
            for over in (turn.ended(), session.closed()):
                with pytest.raises(ConnectionLost, match="the client failed: LookupError") as caught:
                    await over
                assert isinstance(caught.value.__cause__, LookupError)
        with pytest.raises(ConnectError, match="the client failed: LookupError"):
            async with connect(server.url, environment=Surroundings().environment()):
                pass
