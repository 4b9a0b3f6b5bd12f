"""The client without a socket: numbering and answers."""

from __future__ import annotations

import pytest

import bargein_protocol as bp
from bargein_client.core import ClientCore
from bargein_client.delivery import Delivery
from bargein_client.errors import ServerViolation, TooLarge, TooManyPending
from bargein_client.events import EventsLost
from client_script import (
    Client,
    accepted,
    drain,
    ended,
    kinds,
    opened,
    replay_done,
    said,
    snapshot,
    text,
)

# --- numbering ---------------------------------------------------------------------------------------


def test_events_come_out_in_order() -> None:
    """Numbered events reach the turn and every subscriber in order."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.take(ended(5, "t_1"))
    events = drain(turn.inbox)
    assert kinds(events) == ["InputAccepted", "TurnStarted", "TextDelta", "TextDelta", "TurnEnded"]
    assert events == drain(client.everything)
    assert turn.ended == ended(5, "t_1")
    assert turn.text == "one two "


def test_duplicates_are_dropped() -> None:
    """A number that was seen is ignored and counted."""
    client = Client().open()
    turn = client.running("one ")
    client.take(text(3, "t_1", "one "), text(2, "t_1", "zero "))
    assert said(drain(turn.inbox)) == "one "
    assert client.core._sequence.duplicates == 2


def test_a_hole_is_a_violation_and_changes_nothing() -> None:
    """A gap drops the connection before anything is taken in."""
    client = Client().open()
    turn = client.running("one ")
    with pytest.raises(ServerViolation):
        client.take(text(5, "t_1", "three "))
    assert client.core.last_seq == 3
    assert client.reopen().resume == bp.Resume(
        session_id=bp.SessionId("s_1"),
        token=bp.Token("k_1"),
        cursor=bp.Cursor(epoch=bp.Epoch("e_1"), seq=bp.Seq(3)),
    )
    client.take(text(4, "t_1", "two "), text(5, "t_1", "three "), replay_done(5))
    assert said(drain(turn.inbox)) == "one two three "


def test_a_gap_that_a_resume_does_not_fill_is_reported_and_accepted() -> None:
    """The client neither waits for ever nor hides the gap."""
    client = Client().open()
    client.running("one ")
    with pytest.raises(ServerViolation):
        client.take(text(6, "t_1", "four "))
    client.reopen()
    client.take(text(6, "t_1", "four "), replay_done(6))
    assert EventsLost(count=2) in drain(client.everything)
    assert client.core.last_seq == 6


def test_a_replay_that_stops_early_is_a_hole() -> None:
    """`replay.done` names the last number, and a replay must reach it."""
    client = Client().open()
    client.running("one ")
    client.reopen()
    with pytest.raises(ServerViolation):
        client.take(replay_done(4))


@pytest.mark.parametrize(
    "event",
    [text(1, "t_1", "x"), replay_done(0), snapshot(1)],
    ids=["numbered", "replay.done", "snapshot"],
)
def test_nothing_comes_before_session_opened(event: bp.ServerEvent) -> None:
    """A line is opened before anything of the session comes over it."""
    client = Client()
    client.core.attach()
    with pytest.raises(ServerViolation):
        client.take(event)


@pytest.mark.parametrize(
    "event",
    [opened(), replay_done(0), snapshot(9), text(0, "t_1", "x"), text(1, "", "x")],
    ids=["opened twice", "replay.done", "snapshot", "no number", "no turn"],
)
def test_out_of_place_on_a_live_line(event: bp.ServerEvent) -> None:
    """Events that the table of phases does not allow are refused."""
    client = Client().open()
    with pytest.raises(ServerViolation):
        client.take(event)


def test_a_resumed_session_keeps_its_epoch() -> None:
    """Numbers of another epoch would mean something else."""
    client = Client().open()
    client.core.detach()
    client.core.attach()
    with pytest.raises(ServerViolation):
        client.take(opened(resumed=True, epoch="e_2"))


def test_nothing_of_a_turn_comes_after_its_end() -> None:
    """A turn has one end (contract 1)."""
    client = Client().open()
    client.running()
    client.take(ended(3, "t_1"))
    with pytest.raises(ServerViolation):
        client.take(ended(4, "t_1"))


def test_events_of_a_lost_line_are_dropped() -> None:
    """Late events of a lost connection are ignored; the next one repeats them."""
    client = Client().open()
    turn = client.running()
    client.core.detach()
    client.take(text(3, "t_1", "late"))
    assert said(drain(turn.inbox)) == ""
    assert client.core.last_seq == 2


def test_an_unknown_type_counts_its_number() -> None:
    """A newer server's events do no harm and leave no hole."""
    client = Client().open()
    turn = client.running()
    client.take(bp.UnknownEvent(kind="x.y", seq=bp.Seq(3), turn_id=bp.TurnId("t_1")), text(4, "t_1", "on"))
    assert said(drain(turn.inbox)) == "on"


# --- answers -----------------------------------------------------------------------------------------


def test_each_answer_comes_out_once() -> None:
    """Answers and ends are returned under the id of their request."""
    client = Client().open()
    client.running()
    client.take(ended(3, "t_1"))
    assert client.core.outcomes() == [("in_1", accepted(1, "t_1", "in_1")), ("in_1", ended(3, "t_1"))]
    assert client.core.outcomes() == []


def test_a_rejected_input_has_no_turn() -> None:
    """The rejection is the answer, and nothing is in flight afterwards."""
    client = Client().open()
    client.ask(on_busy="reject")
    rejected = bp.InputRejected(input_id=bp.InputId("in_1"), code="busy")
    client.take(rejected)
    assert client.core.outcomes() == [("in_1", rejected)]
    assert len(client.core.turns) == 0


def test_an_error_about_a_request_is_its_answer() -> None:
    """A request that the server could not read is not waited for."""
    client = Client().open()
    client.ask()
    error = bp.ErrorEvent(code="bad_event", message="no", ref_id="in_1")
    client.take(error)
    assert client.core.outcomes() == [("in_1", error)]
    client.take(error)
    assert client.core.outcomes() == []


def test_too_many_unanswered_requests() -> None:
    """At most 64 requests wait; one more is refused without any change."""
    client = Client().open()
    for _ in range(64):
        turn = client.ask()
    with pytest.raises(TooManyPending) as caught:
        client.ask()
    assert caught.value.limit == 64
    with pytest.raises(TooManyPending):
        client.interrupt(turn)
    assert turn.delivery is Delivery.DELIVERED
    assert len(client.core.outgoing()) == len(client.core.turns) == 64


def test_a_smaller_limit_of_the_server_counts() -> None:
    """`limits.pending` may be below 64."""
    client = Client().open(opened(limits=bp.Limits(frame_bytes=262_144, pending=1, queued=8)))
    client.ask()
    with pytest.raises(TooManyPending):
        client.ask()


def test_what_the_server_would_not_read_is_not_sent() -> None:
    """A frame beyond the limit would only cost the connection."""
    client = Client().open(opened(limits=bp.Limits(frame_bytes=1000, pending=64, queued=8)))
    with pytest.raises(TooLarge):
        client.ask("é" * 500)
    with pytest.raises(TooLarge):
        client.ask("x" * 65_537)
    with pytest.raises(TooLarge):
        client.core.update({"key": "x" * 1000})
    assert client.core.outgoing() == []


def test_a_credential_that_cannot_be_written_is_refused_at_once() -> None:
    """Not by a line that ends without a word."""
    with pytest.raises(ValueError, match="surrogates"):
        ClientCore(auth="\udcff")


# --- a server that breaks the protocol ----------------------------------------------------------------


@pytest.mark.parametrize("turn_ids", [["t_1", "t_1"], ["t_9", "t_9"], [""]], ids=str)
def test_a_snapshot_names_each_turn_once(turn_ids: list[str]) -> None:
    """Otherwise a turn would end twice, or never."""
    client = Client().open()
    client.running("one ")
    client.reopen()
    turns = [bp.TurnState(turn_id=bp.TurnId(turn_id), status="completed") for turn_id in turn_ids]
    with pytest.raises(ServerViolation):
        client.take(bp.Snapshot(through=bp.Seq(9), turns=turns))
    assert client.core.last_seq == 3
    assert len(client.core.turns) == 1


def test_open_turns_are_bounded() -> None:
    """As many as a snapshot may hold; the event of one more changes nothing."""
    client = Client().open()
    for seq in range(1, 4097):
        client.core.receive(text(seq, f"t_{seq}", ""))
    with pytest.raises(ServerViolation):
        client.core.receive(text(4097, "t_4097", ""))
    assert client.core.last_seq == len(client.core.turns) == 4096
    client.core.receive(text(4097, "t_1", ""))


def test_an_answer_of_another_kind_leaves_a_request_waiting() -> None:
    """Its sender would wait forever for the right one."""
    client = Client().open()
    turn = client.running("one ")
    client.core.interrupt(bp.Interrupt(id=bp.InterruptId("x_1")), turn)
    client.core.send_input(bp.InputText(id=bp.InputId("in_9"), text="x", on_busy="queue"))
    client.core.outcomes()
    client.take(bp.InputRejected(input_id=bp.InputId("x_1"), code="busy"))
    client.take(accepted(4, "t_8", "x_1"))
    client.take(bp.InterruptResult(interrupt_id=bp.InterruptId("in_9"), outcome="unknown_turn"))
    assert client.core.outcomes() == []
    client.take(bp.InterruptResult(interrupt_id=bp.InterruptId("x_1"), outcome="interrupted"))
    client.take(bp.InputRejected(input_id=bp.InputId("in_9"), code="busy"))
    assert [request for request, _ in client.core.outcomes()] == ["x_1", "in_9"]
