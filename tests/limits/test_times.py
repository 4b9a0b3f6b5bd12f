"""Every duration of the settings: just before it nothing happens, just after it what it says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from bargein_protocol import Heartbeat, ToolResult, TurnEnded, TurnHold, TurnResume, TurnResumed
from bargein_protocol.errors import OPEN_TIMEOUT
from bargein_server import Output, Turn
from bargein_server.agent import NamedCall, TurnFailed
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.tool_loop import ToolRunner
from bargein_server.agents.tools import tool, toolset
from bargein_server.core import CloseConnection, Expire
from bargein_server.core.turn_limiter import TurnLimiter
from bargein_server.guard.authentication import Tickets
from bargein_server.hosting.http_client import create_http_client
from core_driver import Talk
from fake_turn import FakeTurn
from live_server import echo, serving
from memory_client import Line, serve
from model_server import Upstream
from waiting import until

LITTLE = 0.01
LONG = 1e6


def ended(talk: Talk) -> list[str]:
    return [event.reason for event in talk.of(TurnEnded)]


def around(talk: Talk, seconds: float, seen: Callable[[], object]) -> tuple[object, object]:
    """Return what is seen just before and just after a time has passed."""
    talk.wait(seconds - LITTLE)
    before = seen()
    talk.wait(2 * LITTLE)
    return before, seen()


def test_no_output_s() -> None:
    """A turn that yields nothing fails."""
    talk = Talk(no_output_s=7)
    talk.ask()
    assert around(talk, 7, lambda: ended(talk)) == ([], ["no_output"])


def test_turn_s() -> None:
    """A turn as a whole is too long."""
    talk = Talk(turn_s=7, no_output_s=LONG)
    talk.ask()
    assert around(talk, 7, lambda: ended(talk)) == ([], ["timeout"])


def test_hold_s() -> None:
    """A hold that nobody decides resumes."""
    talk = Talk(hold_s=7)
    talk.send(TurnHold(turn_id=talk.ask()))
    assert around(talk, 7, lambda: len(talk.of(TurnResumed))) == (0, 1)


def test_away_s() -> None:
    """A turn whose client is away is interrupted."""
    talk = Talk(away_s=7, no_output_s=LONG)
    turn = talk.ask()
    talk.detach()
    assert around(talk, 7, lambda: talk.emit(turn, "x")) == (True, False)


def test_resume_s() -> None:
    """A session without a turn is forgotten."""
    talk = Talk(resume_s=7)
    talk.detach()
    assert around(talk, 7, lambda: list(talk.commands)) == ([], [Expire()])


def test_idle_s() -> None:
    """A session that nobody uses is closed."""
    talk = Talk(idle_s=7)
    closes = [CloseConnection, Expire]
    assert around(talk, 7, lambda: [type(command) for command in talk.commands]) == ([], closes)


def test_paused_s() -> None:
    """A turn whose client does not read, or holds it again and again, fails; it would keep its slot."""
    talk = Talk(paused_s=7, max_queued_output_bytes=1024)
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x" * 2000)
    assert around(talk, 7, lambda: ended(talk)) == ([], ["timeout"])
    talk = Talk(paused_s=7)
    turn = talk.ask()
    for _ in range(20):
        talk.send(TurnHold(turn_id=turn))
        talk.wait(0.5)
        talk.send(TurnResume(turn_id=turn))
    assert ended(talk) == ["timeout"]


def test_a_turn_that_is_pulled_between_pauses_goes_on() -> None:
    """A slow client gets its answer, however long that takes."""
    talk = Talk(paused_s=7, max_queued_output_bytes=1024, hold_s=100)
    turn = talk.ask()
    for _ in range(5):
        talk.open = False
        talk.emit(turn, "x" * 2000)
        talk.wait(6)
        talk.open = True
        talk.flush()
        talk.session.pulled(turn, talk.now)
    assert ended(talk) == []


def test_turn_wait_s() -> None:
    """A turn that finds no slot fails."""
    turn_limiter = TurnLimiter(1, 1)
    first, second = (Talk(turn_limiter, turn_wait_s=7, no_output_s=LONG) for _ in range(2))
    first.ask()
    second.ask()
    assert around(second, 7, lambda: ended(second)) == ([], ["overload"])


def test_heartbeat_s() -> None:
    """A silent session is never longer without a frame."""
    talk = Talk(heartbeat_s=7, no_output_s=LONG)
    talk.ask()
    talk.wait(7 - LITTLE)
    talk.wait(2 * LITTLE)
    assert len(talk.of(Heartbeat)) == 1
    talk.wait(3.5 - 3 * LITTLE)
    assert len(talk.of(Heartbeat)) == 1
    talk.wait(4 * LITTLE)
    assert len(talk.of(Heartbeat)) == 2


def test_ticket_lifetime_s() -> None:
    """A ticket is good for its time, both ends included."""
    tickets = Tickets(7)
    assert tickets.redeem(tickets.issue("me", 0), 7) == "me"
    assert tickets.redeem(tickets.issue("me", 0), 7 + LITTLE) is None


async def stubborn(turn: Turn) -> AsyncIterator[Output]:
    """Takes no cancel and says when each came."""
    cancels = turn.session.state["cancels"] = []
    while not turn.session.state.get("released"):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancels.append(asyncio.get_running_loop().time())
    yield "never"


@pytest.mark.virtual_time
async def test_cleanup_grace_s_and_cleanup_kill_s() -> None:
    """The second cancel comes after the one, the task is given up after both."""
    sessions = serve(stubborn, cleanup_grace_s=7, cleanup_kill_s=3)
    line = Line(sessions)
    turn = line.ask()
    [live] = sessions
    await until(lambda: "cancels" in live.view.state)
    began = asyncio.get_running_loop().time()
    line.interrupt(turn)
    await asyncio.sleep(10 - LITTLE)
    assert len(sessions.abandoned) == 0
    await asyncio.sleep(2 * LITTLE)
    [abandoned] = sessions.abandoned
    first, second = live.view.state["cancels"]
    assert first - began < LITTLE
    assert abs(second - began - 7) < LITTLE
    live.view.state["released"] = True
    abandoned.cancel()
    await asyncio.wait({abandoned})


@pytest.mark.virtual_time
async def test_first_frame_s() -> None:
    """A connection whose first frame does not come is closed."""
    line = Line(serve(echo, first_frame_s=7))
    await asyncio.sleep(7 - LITTLE)
    closed = [line.wire.closed]
    await asyncio.sleep(2 * LITTLE)
    assert [*closed, line.wire.closed] == [None, OPEN_TIMEOUT]


@pytest.mark.virtual_time
async def test_drain_s() -> None:
    """Turns may go on for so long when the server is told to stop."""

    async def patient(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        await asyncio.sleep(LONG)

    sessions = serve(patient, drain_s=7, no_output_s=LONG)
    line = Line(sessions)
    line.ask()
    stopping = asyncio.create_task(sessions.shut_down())
    await asyncio.sleep(7 - LITTLE)
    assert line.ends() == []
    await asyncio.sleep(2 * LITTLE)
    assert [end.reason for end in line.ends()] == ["shutdown"]
    await stopping


@pytest.mark.virtual_time
async def test_confirm_s() -> None:
    """A tool call that the user does not decide is not allowed."""
    ran: list[str] = []

    async def pay() -> str:
        """Pay."""
        ran.append("paid")
        return "paid"

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        call = NamedCall(turn.tools.claim("c"), "pay", "{}")
        async for output in ToolRunner(turn, toolset([tool(confirm=True)(pay)]), [call]).outputs():
            yield output

    line = Line(serve(agent, confirm_s=7))
    line.ask()
    await line.until("tool.confirm")
    await asyncio.sleep(7 - LITTLE)
    assert "tool.result" not in line.types()
    await asyncio.sleep(2 * LITTLE)
    await line.until("turn.ended")
    [result] = [event for event in line.events if isinstance(event, ToolResult)]
    assert (result.status, ran) == ("cancelled", [])


@pytest.mark.virtual_time
async def test_request_head_s() -> None:
    """A head that is not whole in time ends its connection."""
    async with serving(echo, request_head_s=7) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HT")
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        assert await reader.read() == b""
        assert 7 - LITTLE <= loop.time() - began < 7 + 1
        writer.close()


@pytest.mark.virtual_time
async def test_model_wait_s() -> None:
    """A model call that finds no place fails after its time."""
    async with Upstream() as upstream, create_http_client(max_connections=1, wait_s=7) as client:
        first = asyncio.create_task(client.get(upstream.url))
        call = await upstream.call()
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        with pytest.raises(httpx2.PoolTimeout):
            await client.get(upstream.url)
        assert 7 - LITTLE <= loop.time() - began < 7 + 1
        call.reply(200, {})
        await first


@pytest.mark.virtual_time
async def test_model_connect_s() -> None:
    """A connection that is not made in time fails its call."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:  # beyond its backlog, the kernel answers no further peer
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        async with create_http_client(connect_s=7) as client:
            with pytest.raises(httpx2.ConnectTimeout):
                await client.get(f"http://127.0.0.1:{port}")
        assert 7 - LITTLE <= loop.time() - began < 7 + 1
        for sock in waiting:
            sock.close()


@pytest.mark.virtual_time
@pytest.mark.parametrize("opened", [False, True])
async def test_model_first_byte_s(opened: bool) -> None:
    """A model that sends no byte of an answer fails, with and without headers."""
    async with Upstream() as upstream, create_http_client(first_byte_s=7, silence_s=3) as client:
        agent = OpenAIAgent(model="m", base_url=upstream.url)
        turn = FakeTurn(http_client=client)
        running = asyncio.create_task(anext(agent(turn.for_agent())))
        call = await upstream.call()
        if opened:
            call.open()
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        with pytest.raises(TurnFailed, match="upstream"):
            await running
        assert 7 - LITTLE <= loop.time() - began < 7 + 1
        assert len(upstream.calls) == 1


@pytest.mark.virtual_time
async def test_model_silence_s() -> None:
    """A model that falls silent within its answer fails."""
    async with Upstream() as upstream, create_http_client(silence_s=7) as client:
        agent = OpenAIAgent(model="m", base_url=upstream.url)
        answer = agent(FakeTurn(http_client=client).for_agent())
        first = asyncio.create_task(anext(answer))
        call = await upstream.call()
        call.open()
        call.text("Once")
        await first
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        with pytest.raises(TurnFailed, match="upstream"):
            await anext(answer)
        assert 7 - LITTLE <= loop.time() - began < 7 + 1


async def test_stalled_s() -> None:
    """The kernel drops a connection whose peer acknowledges nothing; it is told in milliseconds."""
    async with serving(echo, stalled_s=7) as server:
        [listener] = [sock for asyncio_server in server.server.servers for sock in asyncio_server.sockets]
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
