"""All sessions of a server: which one a connection gets, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bargein_protocol import (
    Cursor,
    Epoch,
    ErrorEvent,
    InputId,
    InputRejected,
    InputText,
    Resume,
    Seq,
    SessionClose,
    SessionId,
    SessionOpen,
    SessionOpened,
    TextDelta,
    Token,
)
from bargein_protocol.errors import CLOSED, REPLACED
from bargein_server import Output, Turn
from bargein_server.hosting.registry import SessionRegistry
from memory_client import Line, serve
from waiting import until


async def patient(turn: Turn) -> AsyncIterator[Output]:
    """Says a word and waits for its end."""
    yield "word "
    await asyncio.Event().wait()


def opened(line: Line) -> SessionOpened:
    [event] = [event for event in line.events if isinstance(event, SessionOpened)]
    return event


def resume(first: SessionOpened, seq: int, **other: str) -> SessionOpen:
    return SessionOpen(
        resume=Resume(
            session_id=SessionId(other.get("session_id", first.session_id)),
            token=Token(other.get("token", first.token)),
            cursor=Cursor(epoch=Epoch(other.get("epoch", first.epoch)), seq=Seq(seq)),
        ),
        pending=[InputText(id=InputId("pending"), text="x")] if "pending" in other else None,
    )


def back(sessions: SessionRegistry, event: SessionOpen) -> Line:
    line = Line(sessions)
    line.send(event)
    return line


async def test_every_first_frame_but_a_resume_gets_a_session_of_its_own() -> None:
    """Ids, tokens, epochs and turn ids of two sessions differ."""
    sessions = serve(patient)
    one, other = Line(sessions), Line(sessions)
    turns = {one.ask(), other.ask()}
    a, b = opened(one), opened(other)
    assert len(sessions) == 2
    assert len({a.session_id, b.session_id}) == len({a.token, b.token}) == len({a.epoch, b.epoch}) == 2
    assert len(turns) == 2


async def test_the_newest_connection_drives_the_session() -> None:
    """The one before is closed with 4409, gets nothing more, and its loss changes nothing."""
    sessions = serve(patient)
    old = Line(sessions)
    turn = old.ask()
    await old.until("text.delta")
    new = back(sessions, resume(opened(old), 3))
    assert (len(sessions), old.wire.closed) == (1, REPLACED)
    seen = len(old.events)
    old.drop()
    old.connection.writable_again()
    new.interrupt(turn)
    assert new.types() == ["session.opened", "replay.done", "interrupt.result", "turn.ended"]
    assert len(old.events) == seen


@pytest.mark.parametrize("lost", [False, True])
async def test_a_connection_that_was_overtaken_by_a_newer_one_gets_nothing(lost: bool) -> None:
    """Its client had given it up; what it sent was still on its way, with the token that both showed."""
    sessions = serve(patient)
    first = Line(sessions)
    first.ask()
    first.drop()
    again = resume(opened(first), 0)
    older, newer = Line(sessions), Line(sessions)
    newer.send(again)
    if lost:
        newer.drop()
    older.send(again)
    assert (older.events, older.wire.closed, newer.wire.closed) == ([], REPLACED, None)
    last = back(sessions, resume(opened(newer), 0))
    assert opened(last).resumed


async def test_a_resume_goes_on_where_the_line_was_lost() -> None:
    """The numbers continue, and so does the turn, with its task."""
    go_on = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "before "
        await go_on.wait()
        yield "after"

    sessions = serve(agent)
    line = Line(sessions)
    line.ask()
    await line.until("text.delta")
    line.drop()
    go_on.set()
    await until(lambda: not [task for live in sessions for task in live.tasks()])
    again = back(sessions, resume(opened(line), 3))
    assert again.types() == ["session.opened", "text.delta", "turn.ended", "replay.done"]
    assert [event.seq for event in again.events if isinstance(event, TextDelta)] == [4]


@pytest.mark.parametrize(
    ("claim", "seq", "reason"),
    [
        ({"session_id": "s_0"}, 0, "unknown_session"),
        ({"token": "guessed"}, 0, "bad_token"),
        ({"epoch": "e_0"}, 0, "epoch_changed"),
        ({}, 4, "cursor_ahead"),
    ],
)
async def test_a_refused_resume_gets_a_fresh_session_and_leaves_the_other_alone(
    claim: dict[str, str], seq: int, reason: str
) -> None:
    """Its reason is told, nothing of `pending` is applied, and who drove the session still does."""
    sessions = serve(patient)
    owner = Line(sessions)
    turn = owner.ask()
    await owner.until("text.delta")
    thief = back(sessions, resume(opened(owner), seq, pending="", **claim))
    told = opened(thief)
    assert (told.resumed, told.reason) == (False, reason)
    assert told.session_id != opened(owner).session_id
    assert [event.code for event in thief.events if isinstance(event, ErrorEvent)] == ["session_lost"]
    assert thief.types() == ["session.opened", "error"]
    owner.interrupt(turn)
    assert owner.types()[-2:] == ["interrupt.result", "turn.ended"]


async def test_a_session_that_was_closed_is_forgotten() -> None:
    """Its connection is closed with 1000 after the end of its turn, and nobody can resume it."""
    sessions = serve(patient)
    line = Line(sessions)
    line.ask()
    line.send(SessionClose())
    assert line.types()[-1] == "turn.ended"
    assert (line.wire.closed, len(sessions)) == (CLOSED, 0)
    line.drop()
    assert opened(back(sessions, resume(opened(line), 0))).reason == "unknown_session"


@pytest.mark.virtual_time
async def test_a_session_whose_client_stays_away_is_forgotten() -> None:
    """Its turn ends after the away time, the session some minutes later; no timer is left."""
    sessions = serve(patient, away_s=120, resume_s=300, no_output_s=1000)
    line = Line(sessions)
    line.ask()
    await line.until("text.delta")
    line.drop()
    await asyncio.sleep(119)
    assert [task for live in sessions for task in live.tasks()]
    await asyncio.sleep(2)
    assert not [task for live in sessions for task in live.tasks()]
    await asyncio.sleep(298)
    assert len(sessions) == 1
    await asyncio.sleep(2)
    assert len(sessions) == 0


async def test_a_shutdown_ends_every_turn_and_waits_for_the_cleanups() -> None:
    """Each turn fails with `shutdown`, written before the cleanups are waited for."""
    ended: list[list[str]] = []
    line: Line

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            yield "word "
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append([end.reason for end in line.ends()])

    sessions = serve(agent)
    line = Line(sessions)
    line.ask()
    await line.until("text.delta")
    assert await sessions.shut_down() == 0
    assert ended == [["shutdown"]]


@pytest.mark.virtual_time
async def test_a_shutdown_does_not_wait_for_ever() -> None:
    """A task that never ends is counted after the two cleanup times."""
    release = asyncio.Event()

    async def stubborn(turn: Turn) -> AsyncIterator[Output]:
        yield "word "
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    sessions = serve(stubborn, cleanup_grace_s=2, cleanup_kill_s=0.5)
    line = Line(sessions)
    line.ask()
    await line.until("text.delta")
    start = sessions.loop.time()
    assert await sessions.shut_down() == 1
    assert sessions.loop.time() - start == pytest.approx(2.5, abs=0.01)
    release.set()
    await until(lambda: not sessions.abandoned)


async def test_no_turn_begins_while_the_server_stops() -> None:
    """Neither in a session that was there nor in one that is opened meanwhile."""
    sessions = serve(patient)
    known, late = Line(sessions), Line(sessions)
    known.ask()
    await known.until("text.delta")
    await sessions.shut_down()
    for line in (known, late):
        line.send(InputText(id=InputId("late"), text="x"))
        line.flush()
        assert [event.code for event in line.events if isinstance(event, InputRejected)] == ["shutting_down"]
    assert not [task for live in sessions for task in live.tasks()]


async def test_sessions_share_the_slots_of_the_server() -> None:
    """A turn of one starts when a turn of another ends, without anybody sending anything."""
    sessions = serve(patient, max_running_turns=1)
    first, second, third = Line(sessions), Line(sessions), Line(sessions)
    running = first.ask()
    waiting = second.ask()
    third.ask()
    assert sessions.turn_limiter.waiting == 2
    third.send(SessionClose())
    first.interrupt(running)
    await second.until("text.delta")
    assert second.types().count("turn.started") == 1
    second.interrupt(waiting)
    await second.until("turn.ended")
    assert (sessions.turn_limiter.taken, sessions.turn_limiter.waiting) == (0, 0)
