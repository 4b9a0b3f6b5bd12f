"""Bounded buffer of events for one consumer; the writer never waits.

Output of a turn that the user interrupted is never rendered or played. From the moment an interrupt is
sent, the inbox withholds the turn's events, including those that were already waiting. After the server's
answer they are dropped, or delivered in order; see `delivery`.

A slow consumer costs bounded memory. A full buffer is shrunk: first neighbouring deltas are joined, then
the whole state of the turn takes the place of its events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bargein_protocol import (
    JSON,
    NO_SEQ,
    AudioDelta,
    Event,
    Output,
    TextDelta,
    Thought,
    TurnEnded,
    TurnEvent,
    TurnId,
    UnknownEvent,
)

from .delivery import Delivery
from .events import EventsDropped, SessionEvent, TurnSnapshot

MAX_EVENTS = 8192
MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Bounds:
    """Capacity of an inbox.

    Args:
        events: Number of events.
        size: Characters of text, bytes of audio and of the JSON of all other events, summed.
    """

    events: int = MAX_EVENTS
    size: int = MAX_BYTES


@dataclass
class _Withheld:
    """Events of a turn whose output is withheld or dropped."""

    events: list[SessionEvent] = field(default_factory=list)
    dropped: bool = False


class Inbox:
    """Buffer of events for one consumer.

    Args:
        bounds: Capacity.
        state: Returns the state that takes the place of events when the buffer is full. Without it
            the oldest events are dropped and counted in an `EventsDropped`.
    """

    def __init__(self, bounds: Bounds, state: Callable[[], TurnSnapshot] | None = None) -> None:
        self.notify: Callable[[], None] | None = None
        """Called when an event may be ready."""
        self.taken_seq = NO_SEQ
        """The last number that the consumer took before output was dropped, for playback reports.

        The end of the turn does not move it, nor does an event that follows dropped output.
        """
        self._bounds = bounds
        self._state = state
        self._ready: deque[SessionEvent] = deque()
        self._withheld: dict[TurnId, _Withheld] = {}
        self._size = 0
        self._has_gap = False

    def __len__(self) -> int:
        return len(self._ready)

    def take(self) -> SessionEvent | None:
        """Return the next event; None when none is ready."""
        if not self._ready:
            return None
        event = self._ready.popleft()
        self._size -= _size(event)
        if self._has_gap or isinstance(event, TurnEnded):
            return event
        if isinstance(event, TurnEvent):
            self.taken_seq = event.seq
        elif isinstance(event, TurnSnapshot):
            self.taken_seq = event.state.last_seq
        return event

    def put(self, event: SessionEvent) -> None:
        """Add an event; never waits and never fails."""
        withheld = self._withheld.get(_turn_of(event)) if self._withheld else None
        if withheld is None:
            self._ready.append(event)
        elif isinstance(event, TurnEnded):
            # The turn ended while its output was withheld: the output is stale in any case.
            del self._withheld[event.turn_id]
            self._has_gap = True
            self._forget_output(withheld.events)
            self._ready.extend(_without_output(withheld.events))
            self._ready.append(event)
        elif withheld.dropped and _is_output(event):
            return
        else:
            withheld.events.append(event)
        self._size += _size(event)
        if self._full():
            self._shrink()
        self._notify()

    def set_delivery(self, turn_id: TurnId, delivery: Delivery) -> None:
        """Apply the delivery state of a turn that has not ended.

        For a turn that has ended, call `drop_output`.
        """
        if delivery.is_delivered:
            self._release(turn_id)
            return
        self._withhold(turn_id)
        if delivery is Delivery.DROPPED:
            self._drop(turn_id)

    def drop_output(self, turn_id: TurnId) -> None:
        """Drop the waiting output of a turn that has ended."""
        self._has_gap = True
        self._ready = deque(
            event for event in self._ready if _turn_of(event) != turn_id or not _is_output(event)
        )
        self._recount()

    def replace(self, snapshot: TurnSnapshot) -> None:
        """Put the turn's state in place of its waiting events."""
        withheld = self._withheld.get(snapshot.turn_id)
        if withheld is None:
            kept = [event for event in self._ready if _turn_of(event) != snapshot.turn_id]
            self._ready = deque(kept)
        else:
            withheld.events.clear()
        self._recount()
        self.put(snapshot)

    def _withhold(self, turn_id: TurnId) -> None:
        if turn_id not in self._withheld:
            waiting = [event for event in self._ready if _turn_of(event) == turn_id]
            self._withheld[turn_id] = _Withheld(waiting)
            self._ready = deque(event for event in self._ready if _turn_of(event) != turn_id)

    def _drop(self, turn_id: TurnId) -> None:
        withheld = self._withheld[turn_id]
        withheld.dropped = True
        self._has_gap = True
        self._forget_output(withheld.events)
        withheld.events = _without_output(withheld.events)

    def _release(self, turn_id: TurnId) -> None:
        withheld = self._withheld.pop(turn_id, None)
        if withheld is not None:
            self._ready.extend(withheld.events)
            self._notify()

    def _notify(self) -> None:
        if self.notify is not None and self._ready:
            self.notify()

    def _full(self) -> bool:
        count = len(self._ready) + sum(len(withheld.events) for withheld in self._withheld.values())
        return count > self._bounds.events or self._size > self._bounds.size

    def _shrink(self) -> None:
        lists = [list(self._ready), *(withheld.events for withheld in self._withheld.values())]
        joined = [join_deltas(events) for events in lists]
        # Half full at most afterwards, so that shrinking stays rare.
        room = self._bounds.events // 2
        if sum(map(len, joined)) > room or self._size > self._bounds.size // 2:
            joined = [self._collapse(events) for events in joined]
        self._ready = deque(joined[0])
        for withheld, events in zip(self._withheld.values(), joined[1:], strict=True):
            withheld.events = events
        self._recount()

    def _collapse(self, events: list[SessionEvent]) -> list[SessionEvent]:
        if not events:
            return events
        if self._state is None:
            cut = (len(events) + 1) // 2
            dropped = sum(e.count if isinstance(e, EventsDropped) else 1 for e in events[:cut])
            return [EventsDropped(count=dropped), *events[cut:]]
        ended = [event for event in events if isinstance(event, TurnEnded)]
        return [self._state(), *ended]

    def _forget_output(self, events: Iterable[SessionEvent]) -> None:
        self._size -= sum(_size(event) for event in events if _is_output(event))

    def _recount(self) -> None:
        self._size = sum(map(_size, self._ready))
        self._size += sum(_size(event) for withheld in self._withheld.values() for event in withheld.events)


def join_deltas(events: Iterable[SessionEvent]) -> list[SessionEvent]:
    """Join neighbouring text and thought deltas of one lane.

    A joined delta has the number of the last one.
    """
    joined: list[SessionEvent] = []
    run: list[TextDelta | Thought] = []
    for event in events:
        if isinstance(event, (TextDelta, Thought)):
            if run and not _same_lane(run[-1], event):
                joined.append(_join(run))
                run = []
            run.append(event)
            continue
        if run:
            joined.append(_join(run))
            run = []
        joined.append(event)
    if run:
        joined.append(_join(run))
    return joined


def _same_lane(one: TextDelta | Thought, other: TextDelta | Thought) -> bool:
    return type(one) is type(other) and one.turn_id == other.turn_id and one.source == other.source


def _join(run: list[TextDelta | Thought]) -> TextDelta | Thought:
    last = run[-1]
    if len(run) == 1:
        return last
    text = "".join(event.text for event in run)
    return type(last)(seq=last.seq, turn_id=last.turn_id, source=last.source, text=text)


def _is_output(event: SessionEvent) -> bool:
    return isinstance(event, (Output, TurnSnapshot, UnknownEvent))


def _without_output(events: Iterable[SessionEvent]) -> list[SessionEvent]:
    return [event for event in events if not _is_output(event)]


def _turn_of(event: SessionEvent) -> TurnId:
    # An interrupt.result names a turn but is not one of its events.
    if isinstance(event, (TurnEvent, TurnSnapshot, UnknownEvent)):
        return event.turn_id
    return TurnId("")


def _size(event: SessionEvent) -> int:
    if isinstance(event, (TextDelta, Thought)):
        return len(event.text)
    if isinstance(event, AudioDelta):
        return len(event.audio)
    if isinstance(event, Event):  # of the server
        return len(JSON.encode(event))  # type: ignore[arg-type]
    return 0  # the client's own are small, but for a state, of which each turn has one
