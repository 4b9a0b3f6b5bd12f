"""The buffer of a consumer: bounded, and silent when it must be."""

from __future__ import annotations

from typing import Any

from msgspec import structs

import bargein_protocol as bp
from bargein_client.delivery import Delivery
from bargein_client.events import EventsDropped, SessionEvent, TurnSnapshot
from bargein_client.inbox import Bounds, Inbox, join_deltas
from client_script import Client, drain, ended, kinds, result, said, text


def test_a_slow_consumer_of_text_loses_nothing() -> None:
    """A full buffer joins neighbouring deltas, so all text fits."""
    client = Client(Bounds(events=10)).open()
    turn = client.running(*("word " for _ in range(200)))
    assert len(turn.inbox) <= 10
    assert said(drain(turn.inbox)) == "word " * 200


def test_a_buffer_that_cannot_be_joined_becomes_the_state() -> None:
    """The whole state replaces events of many kinds; later events follow."""
    client = Client(Bounds(events=10)).open()
    turn = client.running()
    for seq in range(3, 103):
        client.take(bp.Data(seq=bp.Seq(seq), turn_id=bp.TurnId("t_1"), name=f"n{seq}", value=seq))
    client.take(ended(103, "t_1"))
    events = drain(turn.inbox)
    first = events[0]
    assert isinstance(first, TurnSnapshot)
    known = set(first.state.lanes[""].data) | {e.name for e in events if isinstance(e, bp.Data)}
    assert known == {f"n{seq}" for seq in range(3, 103)}
    assert events[-1] == ended(103, "t_1")


def test_a_slow_stream_says_what_it_dropped() -> None:
    """A stream of all events drops and counts the oldest ones."""
    client = Client(Bounds(events=10)).open()
    client.running()
    for seq in range(3, 103):
        client.take(bp.Data(seq=bp.Seq(seq), turn_id=bp.TurnId("t_1"), name=f"n{seq}", value=seq))
    events = drain(client.everything)
    first = events[0]
    assert isinstance(first, EventsDropped)
    assert first.count + len(events) - 1 == 102


def test_bytes_are_bounded_too() -> None:
    """Large events count by their size, not only by their number."""
    client = Client(Bounds(size=1000)).open()
    turn = client.running()
    for seq in range(3, 23):
        audio = bp.AudioDelta(
            seq=bp.Seq(seq), turn_id=bp.TurnId("t_1"), audio=b"\0" * 300, start_ms=seq * 10, duration_ms=10
        )
        client.take(audio)
    events = drain(turn.inbox)
    assert sum(len(e.audio) for e in events if isinstance(e, bp.AudioDelta)) <= 1000
    assert kinds(events)[0] == "TurnSnapshot"


def test_only_neighbours_of_one_voice_are_joined() -> None:
    """Joining never changes the order of anything."""
    other = bp.TextDelta(seq=bp.Seq(3), turn_id=bp.TurnId("t"), source="b", text="c")
    thought = bp.Thought(seq=bp.Seq(4), turn_id=bp.TurnId("t"), text="d")
    events: list[SessionEvent] = [text(1, "t", "a"), text(2, "t", "b"), other, thought, text(5, "t", "e")]
    assert join_deltas(events) == [text(2, "t", "ab"), other, thought, text(5, "t", "e")]


def test_the_consumer_is_woken_when_there_is_something() -> None:
    """Withheld events do not wake it."""
    woken: list[int] = []
    inbox = Inbox(Bounds())
    inbox.notify = lambda: woken.append(len(inbox))
    inbox.set_delivery(bp.TurnId("t"), Delivery.WITHHELD)
    inbox.put(text(1, "t", "a"))
    assert woken == []
    inbox.set_delivery(bp.TurnId("t"), Delivery.DELIVERED)
    assert woken == [1]


def test_what_is_set_aside_is_bounded() -> None:
    """A server that never answers an interrupt costs bounded memory."""
    client = Client(Bounds(events=10)).open()
    turn = client.running()
    client.interrupt(turn)
    for seq in range(3, 203):
        client.take(bp.Data(seq=bp.Seq(seq), turn_id=bp.TurnId("t_1"), name="n", value=seq))
    assert sum(len(withheld.events) for withheld in turn.inbox._withheld.values()) <= 10


def test_a_second_interrupt_reports_nothing_that_was_withheld() -> None:
    """A loop that interrupts after each event reads the end, too: it is beyond the withheld output."""
    client = Client().open()
    turn = client.running("heard ", "withheld ", "withheld")
    while not isinstance(turn.inbox.take(), bp.TextDelta):
        pass
    client.interrupt(turn, 1)
    client.take(result("x_1", "interrupted", "t_1"), ended(6, "t_1", "interrupted"))
    assert kinds(drain(turn.inbox)) == ["TurnEnded"]
    client.interrupt(turn, 2)
    first, second = client.core.outgoing()
    assert isinstance(first, bp.Interrupt)
    assert isinstance(second, bp.Interrupt)
    assert first.played == second.played == bp.Played(seq=bp.Seq(3))


def test_an_interrupt_after_the_end_reports_what_was_read() -> None:
    """The rest of the output is dropped here, so the server's own count would be too high."""
    client = Client().open()
    turn = client.running("heard ", "unread")
    while not isinstance(turn.inbox.take(), bp.TextDelta):
        pass
    client.take(ended(5, "t_1"))
    client.interrupt(turn, 1)
    assert kinds(drain(turn.inbox)) == ["TurnEnded"]
    client.interrupt(turn, 2)
    played = [event.played for event in client.core.outgoing() if isinstance(event, bp.Interrupt)]
    assert played == [bp.Played(seq=bp.Seq(3))] * 2


def test_every_event_of_the_server_counts_by_its_size() -> None:
    """Values for the application and all other texts are as large as a frame."""
    turn_id = bp.TurnId("t_1")
    large = "x" * 400
    client = Client(Bounds(size=1000)).open()
    client.running()
    events: list[Any] = [
        bp.Data(turn_id=turn_id, name="n", value=large),
        bp.ToolRunning(turn_id=turn_id, call_id=bp.CallId("c"), arguments={"a": large}),
        bp.ToolResult(turn_id=turn_id, call_id=bp.CallId("c"), status="completed", output=[large]),
        bp.ToolCallDelta(turn_id=turn_id, call_id=bp.CallId("c"), arguments=large),
        bp.Status(turn_id=turn_id, message=large),
        bp.TranscriptDelta(text=large),
    ]
    for seq, event in enumerate(events, start=3):
        client.take(structs.replace(event, seq=bp.Seq(seq)))
        assert sum(large in str(kept) for kept in client.everything._ready) <= 2
