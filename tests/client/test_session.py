"""Opening, using and leaving a session, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

import bargein_protocol as bp
from bargein_client import (
    Bounds,
    ConnectError,
    SessionClosed,
    connect,
)
from client_script import (
    ScriptedServer,
    accepted,
    ended,
    next_of,
    opened,
    patiently,
    result,
    scripted_server,
    started,
    talking,
    text,
    until,
)

REPLACED = 4409
RESTART = 1012


async def test_the_first_frame_opens_the_session(server: ScriptedServer) -> None:
    """With the credential and the client's name, never in the URL."""
    connecting = connect(server.url, token="secret")
    entering = asyncio.create_task(connecting.__aenter__())
    line = await server.line()
    opening = await line.open()
    assert opening == bp.SessionOpen(auth="secret", client=bp.ClientInfo(name="bargein-python"))
    assert line.socket.request is not None
    assert line.socket.request.path == "/v1/session"
    assert line.socket.subprotocol == "bargein.v1.json"
    session = await patiently(entering)
    assert session.id == "s_1"
    assert session.state.name == "open"
    server.hang_up()
    await connecting.__aexit__(None, None, None)


async def test_leaving_closes_the_session_for_good(server: ScriptedServer) -> None:
    """`session.close` is sent, and the turn's end still arrives."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        closing = asyncio.create_task(session.close())
        assert await line.receive() == bp.SessionClose()
        with pytest.raises(SessionClosed):
            session.send("too late")
        await line.send(ended(3, "t_1", "interrupted", "session_closed"))
        await line.close(1000)
        await patiently(closing)
        assert (await turn.ended()).reason == "session_closed"
        await session.closed()
        await session.close()


async def test_nobody_listens() -> None:
    """The first connection is not retried; the error has the URL."""
    async with scripted_server() as server:
        url = server.url
    with pytest.raises(ConnectError, match="no server is listening at this address") as caught:
        async with connect(url):
            pass
    assert caught.value.url == url


@pytest.mark.parametrize("status", [400, 401, 403, 404, 503])
async def test_a_refused_handshake(server: ScriptedServer, status: int) -> None:
    """The error has the status."""
    server.refuse = status
    with pytest.raises(ConnectError) as caught:
        async with connect(server.url):
            pass
    assert caught.value.status == status


async def test_a_server_that_refuses_the_first_frame(server: ScriptedServer) -> None:
    """A close before `session.opened` is a failed connection with a code."""

    async def refuse() -> None:
        line = await server.line()
        await line.expect(bp.SessionOpen)
        await line.close(4401)

    refusing = asyncio.create_task(refuse())
    with pytest.raises(ConnectError) as caught:
        async with connect(server.url):
            pass
    assert caught.value.code is not None
    assert caught.value.code.name == "unauthorized"
    await refusing


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "ws://"])
async def test_a_wrong_url(url: str) -> None:
    """The error is the same as for a server that is not there."""
    with pytest.raises(ConnectError):
        async with connect(url):
            pass


async def test_a_proxy_does_not_stand_before_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback addresses are reached directly in every environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    async with talking(server) as (session, _line):
        assert session.state.name == "open"


async def test_a_cancelled_connect_leaves_nothing(server: ScriptedServer) -> None:
    """No task and no socket stays behind."""
    before = asyncio.all_tasks()
    entering = asyncio.create_task(connect(server.url).__aenter__())
    line = await server.line()
    entering.cancel()
    await asyncio.wait([entering])
    await line.gone()
    await until(lambda: not {t for t in asyncio.all_tasks() - before if "bargein" in t.get_name()})


async def test_a_slow_consumer_does_not_stop_the_reader(server: ScriptedServer) -> None:
    """Thousands of unread events do not delay the answer behind them."""
    async with talking(server, bounds=Bounds(events=100)) as (session, line):
        turn = session.send("hello")
        await line.answer()
        for seq in range(3, 3003):
            await line.send(text(seq, "t_1", "word "))
        interrupting = asyncio.create_task(turn.interrupt())
        sent = await line.expect(bp.Interrupt)
        await line.send(result(sent.id, "deferred", "t_1"), ended(3003, "t_1"))
        assert (await patiently(interrupting)).outcome == "deferred"
        words = [event.text async for event in turn if isinstance(event, bp.TextDelta)]
        assert "".join(words) == "word " * 3000
        assert len(words) <= 100


async def test_the_session_interrupts_what_runs(server: ScriptedServer) -> None:
    """The current turn by its id; without one the call does nothing."""
    async with talking(server) as (session, line):
        assert await session.interrupt() is None
        session.send("hello")
        await line.answer()
        interrupting = asyncio.create_task(session.interrupt(reason="enough"))
        sent = await line.expect(bp.Interrupt)
        assert (sent.input_id or sent.turn_id) is not None
        assert sent.reason == "enough"
        await line.send(result(sent.id, "interrupted", "t_1"), ended(3, "t_1", "interrupted"))
        answer = await patiently(interrupting)
        assert answer is not None
        assert answer.outcome == "interrupted"


async def test_metadata_is_merged(server: ScriptedServer) -> None:
    """Sent immediately, and again to a session that replaces a lost one."""
    async with talking(server) as (session, line):
        session.update({"user": "ada"})
        assert await line.receive() == bp.SessionUpdate(metadata={"user": "ada"})
        await line.cut()
        line = await server.line()
        await line.open(opened(session="s_2", epoch="e_2", reason="expired"))
        assert await line.receive() == bp.SessionUpdate(metadata={"user": "ada"})


async def test_what_cannot_be_json_is_refused_at_once(server: ScriptedServer) -> None:
    """In the call, not later in a task."""
    async with talking(server) as (session, _line):
        with pytest.raises(TypeError):
            session.send("hello", metadata={"x": object()})
        assert session.turns == []


async def test_a_stream_gets_every_turn(server: ScriptedServer) -> None:
    """From the moment it was asked for."""
    async with talking(server) as (session, line):
        stream = session.events()
        session.send("one")
        await line.answer("t_1", 1)
        await line.send(ended(3, "t_1"))
        session.send("two")
        asked = await line.expect(bp.InputText)
        await line.send(accepted(4, "t_2", asked.id), started(5, "t_2", asked.id), ended(6, "t_2"))
        ends = [await next_of(stream, bp.TurnEnded) for _ in range(2)]
        assert [end.turn_id for end in ends if isinstance(end, bp.TurnEnded)] == ["t_1", "t_2"]
