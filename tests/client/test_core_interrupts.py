"""The client without a socket: silence from an interrupt on."""

from __future__ import annotations

import pytest

import bargein_protocol as bp
from client_script import (
    Client,
    accepted,
    drain,
    ended,
    kinds,
    opened,
    queued,
    replay_done,
    result,
    said,
    started,
    text,
)


def test_nothing_of_a_turn_is_delivered_from_its_interrupt_on() -> None:
    """Silence in the step of the interrupt: what arrives, and what waited, is folded and not delivered."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.interrupt(turn)
    client.take(text(5, "t_1", "three "))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == ""
    client.take(result("x_1", "interrupted", "t_1"), ended(6, "t_1", "interrupted"))
    for inbox in (turn.inbox, client.everything):
        events = drain(inbox)
        assert said(events) == ""
        assert events[-1] == ended(6, "t_1", "interrupted")
    assert str(turn.fold.voice.text) == "one two three "


def test_what_was_kept_of_a_deferred_interrupt_is_delivered() -> None:
    """A protected sentence must be heard: the answer `deferred` gives out what was kept, in order."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    client.take(text(4, "t_1", "two "), result("x_1", "deferred", "t_1"), text(5, "t_1", "three "))
    client.take(ended(6, "t_1", "interrupted"))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == "one two three "


@pytest.mark.parametrize("outcome", ["interrupted", "already_ended", "unknown_turn"])
def test_a_turn_that_is_over_stays_silent(outcome: bp.Outcome) -> None:
    """Whatever ended it, the user asked for silence."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.take(result("x_1", outcome, "t_1"), text(4, "t_1", "two "), ended(5, "t_1"))
    assert said(drain(turn.inbox)) == ""


def test_a_turn_that_was_interrupted_offline_and_forgotten_stays_silent() -> None:
    """It ended while the line was down, the server does not know it any more, and its end is replayed."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.core.detach()
    client.interrupt(turn)
    client.core.attach()
    client.take(opened(resumed=True, token="k_2"), result("x_1", "unknown_turn"))
    client.take(text(4, "t_1", "two "), ended(5, "t_1"), replay_done(5))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == ""


def test_an_interrupt_before_the_turn_has_an_id() -> None:
    """It names the input, and the turn is silent from its first word."""
    client = Client().open()
    turn = client.ask()
    client.interrupt(turn)
    _, sent = client.core.outgoing()
    assert sent == bp.Interrupt(id=bp.InterruptId("x_1"), input_id=bp.InputId("in_1"))
    client.take(accepted(1, "t_1", "in_1"), started(2, "t_1", "in_1"), text(3, "t_1", "one "))
    client.take(result("x_1", "interrupted", "t_1"), ended(4, "t_1", "interrupted"))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == ""


def test_an_interrupt_that_is_answered_twice() -> None:
    """The second answer says nothing new and is not delivered."""
    client = Client().open()
    turn = client.running()
    client.core.outcomes()
    client.interrupt(turn)
    client.take(result("x_1", "interrupted", "t_1"), result("x_1", "interrupted", "t_1", again=True))
    assert client.core.outcomes() == [("x_1", result("x_1", "interrupted", "t_1"))]
    assert kinds(drain(client.everything)).count("InterruptResult") == 1


def test_an_interrupt_of_a_turn_that_has_ended() -> None:
    """The server is asked all the same, and what nobody has read yet is not delivered any more."""
    client = Client().open()
    turn = client.running("one ")
    client.take(ended(4, "t_1"))
    client.interrupt(turn)
    assert len(client.core.outgoing()) == 1
    assert kinds(drain(turn.inbox)) == ["InputAccepted", "TurnStarted", "TurnEnded"]


def test_an_input_that_is_meant_to_interrupt_mutes_what_runs() -> None:
    """Nothing of the old turn is rendered from the moment of the new input."""
    client = Client().open()
    old = client.running("one ")
    drain(old.inbox)
    new = client.ask(on_busy="interrupt")
    client.take(text(4, "t_1", "two "), ended(5, "t_1", "interrupted", "superseded"))
    client.take(accepted(6, "t_2", "in_2"), started(7, "t_2", "in_2"), text(8, "t_2", "new "))
    assert said(drain(old.inbox)) == ""
    assert said(drain(new.inbox)) == "new "


def test_an_input_that_is_queued_instead_gives_out_what_was_kept() -> None:
    """In a protected section the old turn is to be heard to the section's end."""
    client = Client().open()
    old = client.running("one ")
    client.ask(on_busy=None)
    client.take(text(4, "t_1", "two "), queued(5, "t_2", "in_2"), text(6, "t_1", "three "))
    client.take(ended(7, "t_1", "interrupted", "superseded"))
    assert said(drain(old.inbox)) == "one two three "


def test_an_input_that_is_rejected_gives_out_what_was_kept() -> None:
    """The old turn goes on as if nothing had been asked."""
    client = Client().open()
    old = client.running("one ")
    client.ask(on_busy="interrupt")
    client.take(text(4, "t_1", "two "), bp.InputRejected(input_id=bp.InputId("in_2"), code="shutting_down"))
    assert said(drain(old.inbox)) == "one two "


def test_a_queued_turn_is_not_muted_by_an_interrupting_input() -> None:
    """It takes the place of what runs, not of what waits."""
    client = Client().open()
    client.running()
    waiting = client.ask(on_busy="queue")
    client.ask(on_busy="interrupt")
    client.take(queued(3, "t_2", "in_2"), ended(4, "t_1", "interrupted", "superseded"))
    client.take(accepted(5, "t_3", "in_3"), started(6, "t_3", "in_3"), ended(7, "t_3"))
    client.take(started(8, "t_2", "in_2"), text(9, "t_2", "heard"))
    assert said(drain(waiting.inbox)) == "heard"


def test_what_waits_of_an_interrupted_turn_is_stale_whoever_interrupted_it() -> None:
    """Buffered output is not rendered after an end as interrupted."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.take(ended(5, "t_1", "interrupted", "client_gone"))
    assert said(drain(turn.inbox)) == ""


def test_an_interrupt_reports_what_was_read() -> None:
    """What is muted is not heard: the interrupt says how far the consumer came (contract 7)."""
    client = Client().open()
    turn = client.running("one ", "two ")
    for _ in range(3):
        turn.inbox.take()
    client.interrupt(turn)
    (sent,) = client.core.outgoing()
    assert sent == bp.Interrupt(
        id=bp.InterruptId("x_1"), turn_id=bp.TurnId("t_1"), played=bp.Played(seq=bp.Seq(3))
    )


def test_a_deferred_interrupt_takes_its_report_back() -> None:
    """What it called unheard was delivered after all, and the report moves on to the end."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.take(result("x_1", "deferred", "t_1"), text(4, "t_1", "two "))
    client.core.outgoing()
    client.take(ended(5, "t_1", "interrupted"))
    assert client.core.outgoing() == [bp.Playback(turn_id=bp.TurnId("t_1"), seq=bp.Seq(4))]


def test_an_interrupting_input_reports_what_was_read() -> None:
    """And says no more of the old turn when that ends: what came meanwhile was never shown."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.ask(on_busy="interrupt")
    report, _ = client.core.outgoing()
    assert report == bp.Playback(turn_id=bp.TurnId("t_1"), seq=bp.Seq(3))
    client.take(text(4, "t_1", "two "), ended(5, "t_1", "interrupted", "superseded"))
    client.take(accepted(6, "t_2", "in_2"))
    assert client.core.outgoing() == []


def test_an_application_that_reports_is_not_spoken_for() -> None:
    """Only the application knows what its loudspeaker played."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.core.playback(turn, bp.Played(audio_ms=100))
    client.interrupt(turn)
    _, sent = client.core.outgoing()
    assert isinstance(sent, bp.Interrupt)
    assert sent.played is None
