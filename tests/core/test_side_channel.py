"""Who takes part in a session without driving it."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    JSON,
    Cursor,
    Epoch,
    InputId,
    Interrupt,
    InterruptId,
    InterruptResult,
    Numbered,
    Ping,
    Pong,
    ReplayDone,
    Seq,
    ServerEvent,
    Snapshot,
    TextDelta,
    UnknownEvent,
)
from bargein_server.core.side_channel import Follower, Lagged
from bargein_server.core.turn_record import State
from core_driver import Talk


def cursor(seq: int, epoch: str = "e") -> Cursor:
    return Cursor(epoch=Epoch(epoch), seq=Seq(seq))


def follow(talk: Talk, at: Cursor | None = None) -> Follower:
    follower = talk.session.side_channel.follow(JSON, at)
    assert follower is not None
    talk.followed = True
    return follower


def read(follower: Follower) -> list[ServerEvent | UnknownEvent]:
    """Return everything that is new to a follower."""
    events = []
    while (frame := follower.next_frame()) is not None:
        events.append(JSON.decode_server(frame))
    return events


def test_a_guest_is_answered_aside() -> None:
    """The driver gets the end of the turn and not the answer."""
    talk = Talk()
    turn = talk.ask()
    mark = talk.mark()
    answers = talk.session.side_channel.ask(Interrupt(id=InterruptId("x"), turn_id=turn), talk.now)
    talk.flush()
    [result] = answers
    assert isinstance(result, InterruptResult)
    assert (result.outcome, result.turn_id) == ("interrupted", turn)
    assert talk.types(mark) == ["turn.ended"]
    assert talk.session.side_channel.ask(Ping(id="p"), talk.now) == [Pong(id="p")]


def test_a_guest_is_answered_while_nobody_drives() -> None:
    """The turn goes on while its client is away, and can be ended by who has the secret."""
    talk = Talk()
    turn = talk.ask(id="i1")
    talk.detach()
    [result] = talk.session.side_channel.ask(Interrupt(id=InterruptId("x"), input_id=InputId("i1")), talk.now)
    assert isinstance(result, InterruptResult)
    assert result.turn_id == turn
    assert talk.session.turn(turn).state is State.ENDED
    assert talk.session.side_channel.is_over(InputId("i1"))


def test_an_answer_after_a_guest_is_the_drivers_again() -> None:
    """Nothing of the driver is kept back."""
    talk = Talk()
    talk.session.side_channel.ask(Ping(id="p"), talk.now)
    talk.send(Ping(id="q"))
    assert [event.id for event in talk.of(Pong)] == ["q"]


def test_an_input_is_over_with_its_turn() -> None:
    """And one that has none is over."""
    talk = Talk()
    assert talk.session.side_channel.is_over(InputId("none"))
    turn = talk.ask(id="i1")
    assert not talk.session.side_channel.is_over(InputId("i1"))
    talk.emit(turn, "a")
    talk.finish(turn)
    assert talk.session.side_channel.is_over(InputId("i1"))


def test_a_follower_reads_the_log_and_then_what_is_new() -> None:
    """Every number once, in order, with one `replay.done` where it caught up."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a")
    follower = follow(talk)
    first = read(follower)
    assert isinstance(first.pop(), ReplayDone)
    talk.emit(turn, "b")
    talk.finish(turn)
    second = read(follower)
    numbers = [event.seq for event in first + second if isinstance(event, Numbered)]
    assert numbers == talk.numbers()
    assert read(follower) == []


def test_a_follower_counts_for_nothing() -> None:
    """What it reads is not heard."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, "unheard")
    assert any(isinstance(event, TextDelta) for event in read(follow(talk)))
    assert talk.session.turn(turn).hearing.taken == 0


def test_what_the_log_lost_is_told_as_a_snapshot() -> None:
    """Once, at the beginning; what follows has the next number."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    for number in range(40):
        talk.emit(turn, f"{number} ")
    follower = follow(talk, cursor(3))
    snapshot, done = read(follower)
    assert isinstance(snapshot, Snapshot)
    assert isinstance(done, ReplayDone)
    assert snapshot.turns[0].lanes[""].text.startswith("0 1 2 ")
    talk.emit(turn, "next")
    [delta] = read(follower)
    assert isinstance(delta, TextDelta)
    assert delta.seq == snapshot.through + 1


def test_who_is_too_slow_falls_off() -> None:
    """It is told, and nothing is left out silently."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    follower = follow(talk)
    read(follower)
    for number in range(40):
        talk.emit(turn, f"{number} ")
    with pytest.raises(Lagged):
        follower.next_frame()


@pytest.mark.parametrize("wrong", [cursor(0, "other"), cursor(99)])
def test_a_cursor_of_another_numbering_cannot_be_followed(wrong: Cursor) -> None:
    """Of another epoch, or ahead of this one."""
    assert Talk().session.side_channel.follow(JSON, wrong) is None


def test_the_cursor_is_the_last_number() -> None:
    """From there on only what is new is read."""
    talk = Talk()
    turn = talk.ask()
    follower = follow(talk, talk.session.side_channel.cursor)
    assert [type(event) for event in read(follower)] == [ReplayDone]
    talk.emit(turn, "new")
    assert [type(event) for event in read(follower)] == [TextDelta]
