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
from bargein_server.core.lifecycle import Stage
from bargein_server.core.side_channel import Follower, Lagged
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
    answers = talk.session.side_channel.request(Interrupt(id=InterruptId("x"), turn_id=turn), talk.now)
    talk.flush()
    [result] = answers
    assert isinstance(result, InterruptResult)
    assert (result.outcome, result.turn_id) == ("interrupted", turn)
    assert talk.types(mark) == ["turn.ended"]
    assert talk.session.side_channel.request(Ping(id="p"), talk.now) == [Pong(id="p")]


def test_a_guest_is_answered_while_nobody_drives() -> None:
    """The turn goes on while its client is away, and can be ended by who has the secret."""
    talk = Talk()
    turn = talk.ask(id="i1")
    talk.detach()
    [result] = talk.session.side_channel.request(
        Interrupt(id=InterruptId("x"), input_id=InputId("i1")), talk.now
    )
    assert isinstance(result, InterruptResult)
    assert result.turn_id == turn
    assert talk.session.turn(turn).stage is Stage.ENDED
    assert talk.session.side_channel.is_over(InputId("i1"))


def test_an_answer_after_a_guest_is_the_drivers_again() -> None:
    """Nothing of the driver is kept back."""
    talk = Talk()
    talk.session.side_channel.request(Ping(id="p"), talk.now)
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
    assert talk.session.turn(turn).heard_position.taken == 0


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


def test_who_follows_an_open_run_from_the_beginning_gets_all_of_it() -> None:
    """What the log loses when the run is settled comes as a snapshot, not as a gap."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    for number in range(40):
        assert talk.append_text(turn, f"{number} ")
    snapshot, done = read(follow(talk))
    assert isinstance(snapshot, Snapshot)
    assert isinstance(done, ReplayDone)
    assert snapshot.turns[0].lanes[""].text.endswith("38 39 ")


def test_a_snapshot_for_a_follower_has_the_numbers_of_an_open_run() -> None:
    """Its turn is as new as the snapshot itself."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    talk.emit(turn, *map(str, range(40)))
    follower = follow(talk)
    talk.followed = False  # as in the step between asking for a place and taking it
    assert talk.append_text(turn, "late")
    frame = follower.next_frame()
    assert frame is not None
    snapshot = JSON.decode_server(frame)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.turns[0].last_seq == snapshot.through == talk.numbers()[-1]
    assert snapshot.turns[0].lanes[""].text.endswith("39late")
    assert talk.append_text(turn, " and later")
    assert [event.text for event in read(follower) if isinstance(event, TextDelta)] == [" and later"]
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text.endswith("39late and later")


def test_a_follower_reads_an_open_run_as_it_grows() -> None:
    """Between two pieces, and to the last of them."""
    talk = Talk()
    turn = talk.ask()
    follower = follow(talk, talk.session.side_channel.cursor)
    assert [type(event) for event in read(follower)] == [ReplayDone]
    talk.followed = False  # the host of this one does not end its run for a follower
    for text in ("a", "b"):
        assert talk.append_text(turn, text)
        assert [event.text for event in read(follower) if isinstance(event, TextDelta)] == [text]


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


def test_followers_share_a_snapshot() -> None:
    """For as long as one of them needs it; what is new makes another, and nothing is kept."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    for _ in range(40):
        talk.emit(turn, "x ")
    first, second = follow(talk, cursor(1)), follow(talk, cursor(1))
    shared = first.snapshot()
    assert shared is not None
    assert second.snapshot() is shared
    assert first.next_frame() is second.next_frame() is shared.frame
    assert follow(talk, cursor(2)).snapshot() is not shared
    talk.emit(turn, "new ")
    assert follow(talk, cursor(1)).snapshot() is not shared
    del shared
    assert not first._snapshots
