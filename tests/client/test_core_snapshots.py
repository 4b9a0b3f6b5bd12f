"""The client without a socket: a snapshot in place of a replay."""

from __future__ import annotations

import bargein_protocol as bp
from bargein_client.events import SessionRestarted, SessionResumed, TurnSnapshot
from client_script import (
    Client,
    drain,
    ended,
    kinds,
    replay_done,
    result,
    started,
    text,
)


def folded(turn: str, input_id: str, words: str, seq: int, *, over: bool = False) -> bp.FoldedTurn:
    """A turn as a server that lost its log tells it."""
    fold = bp.TurnFold(bp.TurnId(turn), bp.InputId(input_id))
    fold.apply(started(1, turn, input_id))
    fold.apply(text(seq - 1 if over else seq, turn, words))
    if over:
        fold.apply(ended(seq, turn))
    return fold.folded()


def test_a_snapshot_replaces_the_state() -> None:
    """The consumer is told the whole state, and live events go on from there."""
    client = Client().open()
    turn = client.running("one ")
    client.reopen()
    state = folded("t_1", "in_1", "one two three ", 90)
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[state]), replay_done(100), text(101, "t_1", "four"))
    events = drain(turn.inbox)
    assert kinds(events) == ["TurnSnapshot", "TextDelta"]
    assert events[0] == TurnSnapshot(turn_id=bp.TurnId("t_1"), state=state)
    assert str(turn.fold.voice.text) == "one two three four"
    assert kinds(drain(client.everything)) == ["TurnSnapshot", "SessionResumed", "TextDelta"]


def test_a_turn_that_ended_in_a_snapshot_ends() -> None:
    """Its end is delivered like any other, after its state."""
    client = Client().open()
    turn = client.running("one ")
    client.core.outcomes()
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "all", 90, over=True)]))
    assert kinds(drain(turn.inbox)) == ["TurnSnapshot", "TurnEnded"]
    assert turn.ended is not None
    assert [key for key, _ in client.core.outcomes()] == ["in_1"]
    assert len(client.core.turns) == 0


def test_a_turn_that_a_snapshot_does_not_know_is_lost() -> None:
    """It ends here, rather than be waited for."""
    client = Client().open()
    turn = client.running("one ")
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[]), replay_done(100))
    assert turn.ended is not None
    assert turn.ended.reason == "session_lost"


def test_a_snapshot_answers_an_input() -> None:
    """The turn of an unanswered input is in it."""
    client = Client().open()
    client.ask()
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "hi", 90, over=True)]))
    outcomes = client.core.outcomes()
    assert [type(outcome) for _, outcome in outcomes] == [bp.InputAccepted, bp.TurnEnded]


def test_a_snapshot_of_an_interrupted_turn_is_not_delivered() -> None:
    """Its state is output, and the user asked for silence."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.reopen()
    client.take(result("x_1", "interrupted", "t_1"))
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "all", 90)]), replay_done(100))
    client.take(ended(101, "t_1", "interrupted"))
    assert kinds(drain(turn.inbox)) == ["TurnEnded"]


def test_a_late_subscriber_does_not_hear_a_muted_turn() -> None:
    """Silence holds for whoever listens."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    late = client.core.subscribe()
    client.take(text(4, "t_1", "two "), result("x_1", "interrupted", "t_1"), ended(5, "t_1", "interrupted"))
    assert kinds(drain(late)) == ["InterruptResult", "TurnEnded"]


def test_resumed_is_not_said_of_a_fresh_session() -> None:
    """A session that was never lost is neither resumed nor restarted."""
    client = Client().open()
    assert not [e for e in drain(client.everything) if isinstance(e, (SessionResumed, SessionRestarted))]
