"""A session over lines that break, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

import bargein_protocol as bp
from bargein_client import (
    AccessDenied,
    ConnectionLost,
    InputRejected,
    InterruptRefused,
    Reconnecting,
    SessionReplaced,
    SessionRestarted,
    SessionResumed,
    connect,
)
from client_script import (
    ScriptedServer,
    Surroundings,
    accepted,
    ended,
    next_of,
    opened,
    patiently,
    replay_done,
    result,
    session_lost,
    talking,
    text,
    until,
)

REPLACED = 4409
RESTART = 1012


async def test_a_broken_line_is_resumed(server: ScriptedServer) -> None:
    """From the cursor, with the token; missed events are delivered once."""
    surroundings = Surroundings(chance=0.5)
    async with talking(server, surroundings) as (session, line):
        stream = session.events()
        turn = session.send("hello")
        await line.answer()
        await line.send(text(3, "t_1", "one "))
        await until(lambda: turn.text == "one ")
        await line.cut()
        line = await server.line()
        opening = await line.open(opened(resumed=True, token="k_2"))
        assert opening.resume == bp.Resume(
            session_id=bp.SessionId("s_1"),
            token=bp.Token("k_1"),
            cursor=bp.Cursor(epoch=bp.Epoch("e_1"), seq=bp.Seq(3)),
        )
        await line.send(text(3, "t_1", "one "), text(4, "t_1", "two"), ended(5, "t_1"), replay_done(5))
        await patiently(turn.ended())
        assert turn.text == "one two"
        assert await next_of(stream, Reconnecting) == Reconnecting(attempt=1, delay_s=0.25, code="abnormal")
        await next_of(stream, SessionResumed)
        assert surroundings.slept == [0.25]


async def test_requests_without_an_answer_are_sent_again(server: ScriptedServer) -> None:
    """Under the same ids, in the first frame; the callers keep waiting."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        interrupting = asyncio.create_task(turn.interrupt())
        sent = await line.expect(bp.Interrupt)
        following = session.send("next")
        asked = await line.expect(bp.InputText)
        await line.cut()
        line = await server.line()
        opening = await line.open(opened(resumed=True))
        assert opening.pending == [sent, asked]
        await line.send(result(sent.id, "interrupted", "t_1"), ended(3, "t_1", "interrupted"))
        await line.send(accepted(4, "t_2", asked.id), replay_done(4))
        assert (await patiently(interrupting)).outcome == "interrupted"
        await patiently(following.accepted())
        assert following.id == "t_2"


async def test_what_is_asked_without_a_line_comes_first_on_the_next(server: ScriptedServer) -> None:
    """An offline interrupt withholds the output and is sent first."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        server.refuse = 503
        await line.cut()
        await until(lambda: session.state.name != "open")
        interrupting = asyncio.create_task(turn.interrupt())
        await asyncio.sleep(0)
        server.refuse = None
        line = await server.line()
        opening = await line.open(opened(resumed=True))
        assert opening.pending is not None
        await line.send(result(opening.pending[0].id, "interrupted", "t_1"))
        await line.send(text(3, "t_1", "stale"), ended(4, "t_1", "interrupted"), replay_done(4))
        assert (await patiently(interrupting)).outcome == "interrupted"
        assert not [event async for event in turn if isinstance(event, bp.TextDelta)]


async def test_a_lost_session_is_told(server: ScriptedServer) -> None:
    """Turns and requests fail as `session_lost`; the fresh session works."""
    async with talking(server) as (session, line):
        stream = session.events()
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        interrupting = asyncio.create_task(turn.interrupt())
        sent = await line.expect(bp.Interrupt)
        following = session.send("next")
        asked = await line.expect(bp.InputText)
        await line.cut()
        line = await server.line()
        await line.open(opened(session="s_2", epoch="e_2", reason="unknown_session"))
        await line.send(session_lost(sent.id), session_lost(asked.id))
        lost = await patiently(turn.ended())
        assert (lost.status, lost.reason) == ("failed", "session_lost")
        with pytest.raises(InterruptRefused, match="session_lost"):
            await patiently(interrupting)
        with pytest.raises(InputRejected) as caught:
            await patiently(following.accepted())
        assert (caught.value.code, caught.value.retryable) == ("session_lost", True)
        assert await next_of(stream, SessionRestarted) == SessionRestarted(reason="unknown_session")
        again = session.send("again")
        await line.answer()
        await patiently(again.accepted())
        assert again.id == "t_1"
        assert session.id == "s_2"


async def test_a_hole_is_a_lost_line(server: ScriptedServer) -> None:
    """The client leaves and resumes before the hole."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await line.send(text(4, "t_1", "two"))
        await line.gone()
        line = await server.line()
        opening = await line.open(opened(resumed=True))
        assert opening.resume is not None
        assert opening.resume.cursor.seq == 2
        await line.send(text(3, "t_1", "one "), text(4, "t_1", "two"), ended(5, "t_1"), replay_done(5))
        await patiently(turn.ended())
        assert turn.text == "one two"


async def test_garbage_is_a_lost_line(server: ScriptedServer) -> None:
    """A frame that is no event may have had a number."""
    async with talking(server) as (_session, line):
        await line.socket.send("{nonsense")
        await line.gone()
        await (await server.line()).open(opened(resumed=True))


async def test_a_replaced_session_does_not_come_back(server: ScriptedServer) -> None:
    """4409: two clients must not fight over a session."""
    surroundings = Surroundings()
    async with talking(server, surroundings) as (session, line):
        turn = session.send("hello")
        stream = session.events()
        await line.answer()
        await line.close(REPLACED)
        with pytest.raises(SessionReplaced):
            await patiently(session.closed())
        assert session.state.name == "replaced"
        for failing in (turn.ended(), turn.interrupt()):
            with pytest.raises(SessionReplaced):
                await patiently(failing)
        with pytest.raises(SessionReplaced):
            session.send("more")
        with pytest.raises(SessionReplaced):
            session.update({})
        with pytest.raises(SessionReplaced):
            await next_of(stream, Reconnecting)
        assert surroundings.slept == []
        assert server.lines.empty()


@pytest.mark.parametrize("code", [4401, 4403])
async def test_a_client_that_is_not_let_in_any_more(server: ScriptedServer, code: int) -> None:
    """The session ends with the reason."""
    async with talking(server) as (session, line):
        await line.close(code)
        with pytest.raises(AccessDenied) as caught:
            await patiently(session.closed())
        assert caught.value.code is not None
        assert caught.value.code.number == code


async def test_a_session_that_the_server_closes(server: ScriptedServer) -> None:
    """1000 is the regular end; streams end quietly."""
    async with talking(server) as (session, line):
        stream = session.events()
        await line.close(1000)
        await patiently(session.closed())
        assert [event async for event in stream] == []
        assert [event async for event in session.events()] == []


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4408, 4410, 4413, 4429, 4431, 4999])
async def test_every_other_code_comes_back(server: ScriptedServer, code: int) -> None:
    """The server decides whether the session can still be had."""
    async with talking(server) as (_session, line):
        await line.close(code)
        opening = await (await server.line()).open(opened(resumed=True))
        assert opening.resume is not None


async def test_goaway_sets_the_delay(server: ScriptedServer) -> None:
    """The server's delay counts once, then the client's own."""
    surroundings = Surroundings(chance=0.5)
    async with talking(server, surroundings) as (_session, line):
        await line.send(bp.GoAway(reason="restart", reconnect_after_ms=7000))
        await line.close(RESTART)
        line = await server.line()
        await line.open(opened(resumed=True))
        await line.send(replay_done(0))
        assert surroundings.slept == [7.0]
        await line.close(RESTART)
        await (await server.line()).open(opened(resumed=True))
        assert surroundings.slept == [7.0, 0.5]


async def test_a_server_that_sends_each_connection_away_is_asked_less_often(server: ScriptedServer) -> None:
    """Its delay is that of the first time; a delay beyond a minute is none that a server needs."""
    surroundings = Surroundings(chance=0.5)
    async with talking(server, surroundings) as (_session, line):
        for _ in range(4):
            await line.send(bp.GoAway(reason="drain", reconnect_after_ms=0))
            await line.close(RESTART)
            line = await server.line()
            await line.open(opened(resumed=True))
            await line.send(replay_done(0))
        assert surroundings.slept == [0.0, 0.5, 1.0, 2.0]
        await line.send(bp.GoAway(reason="drain", reconnect_after_ms=10**15))
        await line.close(RESTART)
        await (await server.line()).open(opened(resumed=True))
        assert surroundings.slept[-1] == 60.0


async def test_no_delay_is_longer_than_the_outage_may_last(server: ScriptedServer) -> None:
    """The last attempt is made when the application wants to know."""
    surroundings = Surroundings(chance=0.5)
    connecting = connect(server.url, environment=surroundings.environment(), give_up_after_s=10.0)
    entering = asyncio.create_task(connecting.__aenter__())
    line = await server.line()
    await line.open(opened())
    session = await patiently(entering)
    await line.send(bp.GoAway(reason="drain", reconnect_after_ms=30_000))
    await line.close(RESTART)
    await server.stop()
    with pytest.raises(ConnectionLost):
        await patiently(session.closed())
    assert surroundings.slept == [10.0]
    await connecting.__aexit__(None, None, None)


async def test_delays_grow_while_the_server_is_away(server: ScriptedServer) -> None:
    """Full jitter under a bound that doubles from 0.5 s to 30 s."""
    surroundings = Surroundings(chance=0.999)
    async with talking(server, surroundings) as (session, _line):
        await server.stop()
        await until(lambda: len(surroundings.slept) >= 8)
        await server.start()
        await (await server.line()).open(opened(resumed=True))
        bounds = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        assert surroundings.slept[:8] == pytest.approx([0.999 * bound for bound in bounds])
        await until(lambda: session._core.phase.value != "opening")


async def test_a_line_that_does_not_last_is_no_success(server: ScriptedServer) -> None:
    """A server that breaks every line at once is asked ever more seldom."""
    surroundings = Surroundings(chance=0.999)
    async with talking(server, surroundings) as (_session, line):
        for _ in range(4):
            await line.cut()
            line = await server.line()
            await line.open(opened(resumed=True))
            await line.send(replay_done(0))
        assert surroundings.slept == pytest.approx([0.999 * bound for bound in (0.5, 1.0, 2.0, 4.0)])


async def test_a_server_that_stays_away_is_given_up(server: ScriptedServer) -> None:
    """After 300 s of one outage; nothing waits for ever."""
    surroundings = Surroundings(chance=0.999)
    async with talking(server, surroundings) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await server.stop()
        with pytest.raises(ConnectionLost):
            await patiently(session.closed())
        with pytest.raises(ConnectionLost):
            await patiently(turn.ended())
        assert 290 <= sum(surroundings.slept) <= 310


async def test_without_reconnecting_the_first_break_is_the_end(server: ScriptedServer) -> None:
    """An application may reconnect for itself."""
    async with talking(server, reconnect=False) as (session, line):
        await line.cut()
        with pytest.raises(ConnectionLost):
            await patiently(session.closed())


async def test_a_silent_line_is_dropped(server: ScriptedServer) -> None:
    """Nothing for twice the heartbeat: the line is taken for lost."""
    async with talking(server, first=opened(heartbeat_ms=20)) as (_session, line):
        await line.gone()
        await (await server.line()).open(opened(resumed=True))


async def test_any_frame_counts_as_life(server: ScriptedServer) -> None:
    """A ping of the WebSocket proves as much as an event does."""
    async with talking(server, first=opened(heartbeat_ms=200)) as (session, line):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() < begun + 0.5:
            await (await line.socket.ping())
        assert session.state.name == "open"
        assert server.lines.empty()
