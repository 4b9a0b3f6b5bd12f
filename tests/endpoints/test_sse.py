"""`/v1/turns` and `/v1/sessions`: sessions over Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_server import Output, Turn
from live_server import Frame, Serving, WireKind, ask, counting, echo, serving
from sse_client import Stream, http
from waiting import until


def resume(opened: Frame, seq: int) -> dict[str, Any]:
    """Return what a client asks for when it comes back."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    return {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}


def token(opened: Frame) -> dict[str, str]:
    return {"Bargein-Session-Token": opened["token"]}


async def away(server: Serving) -> None:
    """Wait until nobody drives any session."""
    await until(lambda: all(live.connection is None for live in server.sessions), "the client's absence")


class Gate:
    """An agent that says a word for each `let`."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str | None] = asyncio.Queue()
        self.pulled = 0

    def let(self, *words: str | None) -> None:
        for word in words:
            self.words.put_nowait(word)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        while (word := await self.words.get()) is not None:
            yield word
            self.pulled += 1


async def test_a_turn_is_a_stream_of_events(wire: WireKind) -> None:
    """The type, the cursor of what is numbered, and the JSON of the protocol; it ends with its turn."""
    async with serving(echo, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "hello", "id": "i1"}) as stream:
            assert stream.status == 200
            frames = await stream.end()
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert [frame["type"] for frame in frames] == [
            "session.opened", "input.accepted", "turn.started", "text.delta", "text.delta", "turn.ended",
        ]  # fmt: skip
        epoch = frames[0]["epoch"]
        assert [message.kind for message in stream.messages] == [frame["type"] for frame in frames]
        assert [message.id for message in stream.messages] == [None, *(f"{epoch}.{n}" for n in range(1, 6))]
        assert frames[-1]["heard"]["text"] == "hello|[]"


async def test_a_second_turn_goes_on_with_the_session(wire: WireKind) -> None:
    """The agent remembers, and the numbers go on."""
    async with serving(echo, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "one"}) as stream:
            first = await stream.end()
        body = {"text": "two", "resume": resume(first[0], 5)}
        async with client.stream("/v1/turns", body) as stream:
            second = await stream.end()
        assert second[0]["resumed"]
        assert '"one"' in second[-1]["heard"]["text"]
        assert [frame["seq"] for frame in second if "turn_id" in frame] == [6, 7, 8, 9, 10]
        assert len(server.sessions) == 1


async def test_what_was_cut_is_resumed_by_the_same_request(wire: WireKind) -> None:
    """With `Last-Event-ID` and the token: the input is not asked twice, and nothing is lost or doubled."""
    agent = Gate()
    async with serving(agent, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "story", "id": "i1"}) as stream:
            opened = await stream.until("session.opened")
            agent.let("once ", "upon ")
            await stream.until("text.delta", text="upon ")
        await away(server)
        agent.let("a ", "time", None)
        body = {"text": "story", "id": "i1", "resume": resume(opened, 0)}
        last = {"Last-Event-ID": str(stream.messages[-1].id)}
        async with client.stream("/v1/turns", body, last) as again:
            frames = await again.end()
        assert [frame["type"] for frame in frames[:2]] == ["session.opened", "input.accepted"]
        assert (frames[0]["resumed"], frames[1]["duplicate"]) == (True, True)
        assert [frame["text"] for frame in frames if frame["type"] == "text.delta"] == ["a ", "time"]
        assert [frame["type"] for frame in frames[-2:]] == ["turn.ended", "replay.done"]


async def test_a_turn_that_ended_meanwhile_ends_the_stream_at_once(wire: WireKind) -> None:
    """Also for a client that has seen its end already."""
    async with serving(echo, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
            frames = await stream.end()
        body = {"text": "x", "id": "i1", "resume": resume(frames[0], 5)}
        async with client.stream("/v1/turns", body) as again:
            assert [f["type"] for f in await again.end()] == [
                "session.opened",
                "input.accepted",
                "replay.done",
            ]


async def test_an_input_that_is_rejected_ends_the_stream(wire: WireKind) -> None:
    """The answer is told, and nothing follows."""
    async with (
        serving(counting, wire) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "x"}) as stream,
    ):
        opened = await stream.until("session.opened")
        await stream.until("text.delta")
        body = {"text": "y", "on_busy": "reject", "resume": resume(opened, 0)}
        async with client.stream("/v1/turns", body) as rejected:
            assert "busy" in [frame.get("code") for frame in await rejected.end()]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"token": "false"}, "bad_token"),
        ({"session_id": "s_none"}, "unknown_session"),
        ({"cursor": {"epoch": "e", "seq": 0}}, "epoch_changed"),
    ],
)
async def test_a_turn_is_not_begun_in_another_session(
    wire: WireKind, change: dict[str, Any], why: str
) -> None:
    """A resume that cannot be granted is 404, and nobody is displaced."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            opened = await stream.until("session.opened")
            body = {"text": "y", "resume": resume(opened, 0) | change}
            answer = await client.post("/v1/turns", body)
            assert answer.status_code == 404
            assert answer.json()["code"] == "session_lost"
            assert why in answer.json()["message"]
            await stream.until("text.delta")
        assert len(server.sessions) == 1


async def test_a_newer_connection_ends_the_stream_with_a_reason(wire: WireKind) -> None:
    """What a close frame says comes as the last event, and the socket drives on."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            opened = await stream.until("session.opened")
            async with server.connect() as socket:
                await socket.send({"type": "session.open", "resume": resume(opened, 0)})
                assert (await socket.receive())["resumed"]
                await stream.end()
                await socket.until("text.delta")
        assert stream.messages[-1].kind == "close"
        told = stream.messages[-1].data
        assert (told["number"], told["name"], told["action"]) == (4409, "replaced", "stop")


@pytest.mark.parametrize(("setting", "status"), [("away", None), ("interrupt", "interrupted")])
async def test_closing_the_request_is_a_lost_client(wire: WireKind, setting: str, status: str | None) -> None:
    """The turn goes on, unless a setting makes it an interrupt."""
    async with serving(counting, wire, stream_closed=setting) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
            opened = await stream.until("session.opened")
            await stream.until("text.delta")
        await away(server)
        headers = token(opened)
        async with client.stream(f"/v1/sessions/{opened['session_id']}/events", headers=headers) as follower:
            await follower.until("replay.done")
            ends = [frame for frame in follower.frames if frame["type"] == "turn.ended"]
            assert [(end["status"], end["reason"]) for end in ends] == (
                [] if status is None else [(status, "client_gone")]
            )


async def test_a_silent_agent_is_kept_alive_by_comments(wire: WireKind) -> None:
    """No event is told, and the line is not idle."""
    agent = Gate()
    async with (
        serving(agent, wire, heartbeat_s=0.05) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "x"}) as stream,
    ):
        await stream.until("turn.started")
        for _ in range(2):
            message = await stream.receive()
            assert message is not None
            assert (message.kind, message.data) == ("", "heartbeat")
        agent.let(None)
        await stream.until("turn.ended")


async def test_a_client_that_does_not_read_stops_the_agent_and_no_interrupt(wire: WireKind) -> None:
    """The generator is not pulled when the buffers are full; an interrupt is answered all the same."""
    pulled = 0

    async def gushing(turn: Turn) -> AsyncIterator[Output]:
        nonlocal pulled
        while True:
            yield "x" * 8192
            pulled += 1

    async with (
        serving(gushing, wire) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream,
    ):
        opened = await stream.until("session.opened")
        [live] = server.sessions
        seen: list[int] = []

        def stands_still() -> bool:
            seen.append(pulled)
            return live.core.full and seen[-1000:] == [pulled] * 1000

        await until(stands_still, "full buffers")
        stalled = pulled
        path = f"/v1/sessions/{opened['session_id']}/interrupt"
        answer = await client.post(path, {"id": "x1", "input_id": "i1"}, token(opened))
        assert answer.json()["outcome"] == "interrupted"
        assert pulled <= stalled + 1
        assert (await stream.end())[-1]["status"] == "interrupted"


async def interrupt_a_turn(server: Serving, stream: Stream, body: dict[str, Any]) -> dict[str, Any]:
    """Interrupt over HTTP what a stream shows; returns the answer."""
    opened = await stream.until("session.opened")
    await stream.until("text.delta")
    async with http(server) as client:
        path = f"/v1/sessions/{opened['session_id']}/interrupt"
        answer = await client.post(path, body, token(opened))
        assert answer.status_code == 200
        result: dict[str, Any] = answer.json()
        return result


async def test_an_interrupt_has_the_outcomes_of_the_socket(wire: WireKind) -> None:
    """`interrupted`, its duplicate, `already_ended`, `unknown_turn`; and the stream ends with its turn."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
            first = await interrupt_a_turn(server, stream, {"id": "x1", "input_id": "i1", "reason": "enough"})
            frames = await stream.end()
        assert (first["type"], first["outcome"]) == ("interrupt.result", "interrupted")
        assert (frames[-1]["type"], frames[-1]["reason"]) == ("turn.ended", "enough")
        path = f"/v1/sessions/{frames[0]['session_id']}/interrupt"
        asks: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"id": "x1", "input_id": "i1"}, {"outcome": "interrupted", "duplicate": True}),
            ({"id": "x2", "turn_id": first["turn_id"]}, {"outcome": "already_ended"}),
            ({"id": "x3", "turn_id": "t_none"}, {"outcome": "unknown_turn"}),
            ({"id": "x4", "input_id": "later"}, {"outcome": "deferred"}),
        ]
        for body, expected in asks:
            answer = await client.post(path, {"type": "interrupt", **body}, token(frames[0]))
            assert answer.status_code == 200
            assert expected.items() <= answer.json().items()
        reused = await client.post(path, {"id": "i1", "turn_id": "t"}, token(frames[0]))
        assert (reused.status_code, reused.json()["code"]) == (409, "id_reused")


async def test_an_interrupt_ends_a_turn_of_a_socket(wire: WireKind) -> None:
    """Its end leaves on the socket, which stays connected and keeps its token."""
    async with serving(counting, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        turn = await ask(socket)
        await socket.until("text.delta")
        path = f"/v1/sessions/{opened['session_id']}/interrupt"
        answer = await client.post(path, {"id": "x", "turn_id": turn}, token(opened))
        assert answer.json()["outcome"] == "interrupted"
        await socket.until("turn.ended", turn_id=turn)
        assert "interrupt.result" not in [frame["type"] for frame in socket.frames]
        await ask(socket, id="i2")
        again = await client.post(path, {"id": "x2", "input_id": "i2"}, token(opened))
        assert again.json()["outcome"] == "interrupted"


async def test_a_stream_without_a_turn_drives_a_session(wire: WireKind) -> None:
    """Events go up in requests of their own; what they bring about comes down in order."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/sessions", {}) as stream:
            opened = await stream.until("session.opened")
            path, headers = f"/v1/sessions/{opened['session_id']}/events", token(opened)

            async def send(event: dict[str, Any]) -> None:
                assert (await client.post(path, event, headers)).status_code == 202

            await send({"type": "input.text", "id": "i1", "text": "hello"})
            turn = (await stream.until("input.accepted"))["turn_id"]
            await stream.until("text.delta")
            await send({"type": "interrupt", "id": "x", "turn_id": turn})
            await stream.until("interrupt.result", outcome="interrupted")
            await stream.until("turn.ended")
            await send({"type": "nonsense"})
            await stream.until("error", code="unknown_type")
            await send({"type": "session.close"})
            await stream.end()
            assert stream.messages[-1].data["name"] == "closed"
        assert len(server.sessions) == 0


async def test_only_an_event_stream_is_driven_by_requests(wire: WireKind) -> None:
    """409 while a socket drives the session; 404 for a token that is not the newest."""
    async with serving(counting, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        path = f"/v1/sessions/{opened['session_id']}/events"
        answer = await client.post(path, {"type": "ping", "id": "p"}, token(opened))
        assert answer.status_code == 409
        async with client.stream("/v1/sessions", {"resume": resume(opened, 0)}) as stream:
            newer = await stream.until("session.opened")
            assert newer["resumed"]
            stale = await client.post(path, {"type": "ping", "id": "p"}, token(opened))
            assert stale.status_code == 404
            assert (await client.post(path, {"type": "ping", "id": "p"}, token(newer))).status_code == 202
            await stream.until("pong")


async def test_shutdown_ends_the_streams(wire: WireKind) -> None:
    """Turns are told their end, streams that would go on are told to come back, and the server stops."""
    async with (
        serving(counting, wire) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "x"}) as turn,
        client.stream("/v1/sessions", {}) as session,
    ):
        opened = await turn.until("session.opened")
        await session.until("session.opened")
        path = f"/v1/sessions/{opened['session_id']}/events"
        async with client.stream(path, headers=token(opened)) as follower:
            await follower.until("replay.done")
            server.server.should_exit = True
            end = (await turn.end())[-1]
            assert (end["status"], end["reason"]) == ("failed", "shutdown")
            for stream in (session, follower):
                await stream.end()
                assert stream.messages[-1].data["name"] == "restart"


async def test_a_protected_section_defers_an_interrupt_over_http(wire: WireKind) -> None:
    """The answer comes at once, the section to its end, and then the end of the turn."""
    said = asyncio.Event()

    async def legal(turn: Turn) -> AsyncIterator[Output]:
        async with turn.uninterruptible():
            yield "Calls "
            await said.wait()
            yield "may be recorded. "
        yield "never said"

    async with serving(legal, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
            result = await interrupt_a_turn(server, stream, {"id": "x1", "input_id": "i1"})
            assert result["outcome"] == "deferred"
            said.set()
            frames = await stream.end()
        assert [frame["text"] for frame in frames if frame["type"] == "text.delta"][-1] == "may be recorded. "
        assert (frames[-1]["type"], frames[-1]["status"]) == ("turn.ended", "interrupted")
