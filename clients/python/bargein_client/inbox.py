"""A bounded buffer of events between the reader, which never waits, and one consumer.

Two rules live here. What a user interrupted is never rendered or played: from the moment an
interrupt is sent, the turn's events are set aside, also those that were already waiting in the
buffer. The server's answer decides: dropped when the turn is over, given out when the interrupt was
deferred or refused. And a slow consumer costs bounded memory: a buffer that runs full is shrunk, first
by joining neighbouring deltas, then by putting the turn's whole state in place of its events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bargein_protocol import (
    NO_SEQ,
    AudioDelta,
    Output,
    TextDelta,
    Thought,
    TurnEnded,
    TurnEvent,
    TurnId,
    UnknownEvent,
)

from .events import EventsDropped, SessionEvent, TurnSnapshot

MAX_EVENTS = 8192
MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Bounds:
    """How much an inbox holds.

    Args:
        events: Events.
        size: Characters of text and bytes of audio, summed.
    """

    events: int = MAX_EVENTS
    size: int = MAX_BYTES


@dataclass
class _Aside:
    """The events of a turn whose interrupt has no answer yet, or of one that is silenced."""

    events: list[SessionEvent] = field(default_factory=list)
    silenced: bool = False


class Inbox:
    """A buffer of events for one consumer.

    Args:
        bounds: How much it holds.
        state: Gives the state that takes the place of events when the buffer is full. Without it
            the oldest events are dropped and counted in an `EventsDropped`.
    """

    def __init__(self, bounds: Bounds, state: Callable[[], TurnSnapshot] | None = None) -> None:
        self.notify: Callable[[], None] | None = None
        """Called when there may be something to take."""
        self.taken_seq = NO_SEQ
        """The last number that the consumer has taken."""
        self._bounds = bounds
        self._state = state
        self._ready: deque[SessionEvent] = deque()
        self._aside: dict[TurnId, _Aside] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._ready)

    def take(self) -> SessionEvent | None:
        """Return the next event, None when there is none now."""
        if not self._ready:
            return None
        event = self._ready.popleft()
        self._size -= _size(event)
        if isinstance(event, TurnEvent):
            self.taken_seq = event.seq
        elif isinstance(event, TurnSnapshot):
            self.taken_seq = event.state.last_seq
        return event

    def put(self, event: SessionEvent) -> None:
        """Add an event; never waits and never fails."""
        aside = self._aside.get(_turn_of(event)) if self._aside else None
        if aside is None:
            self._ready.append(event)
        elif isinstance(event, TurnEnded):
            # The turn is over while it was muted: its output is stale, whatever ended it.
            del self._aside[event.turn_id]
            self._drop(aside.events)
            self._ready.extend(_without_output(aside.events))
            self._ready.append(event)
        elif aside.silenced and _is_output(event):
            return
        else:
            aside.events.append(event)
        self._size += _size(event)
        if self._full():
            self._shrink()
        self._tell()

    def mute(self, turn_id: TurnId) -> None:
        """Set the turn's events aside, also those that wait already, until `silence` or `release`.

        The turn has not ended yet; for one that has, call `drop_output`.
        """
        if turn_id not in self._aside:
            self._aside[turn_id] = _Aside([event for event in self._ready if _turn_of(event) == turn_id])
            self._ready = deque(event for event in self._ready if _turn_of(event) != turn_id)

    def silence(self, turn_id: TurnId) -> None:
        """Drop a muted turn's output for good: what was set aside and what still comes."""
        aside = self._aside.get(turn_id)
        if aside is not None:
            aside.silenced = True
            self._drop(aside.events)
            aside.events = _without_output(aside.events)

    def drop_output(self, turn_id: TurnId) -> None:
        """Drop what waits of the output of a turn that has ended."""
        self._ready = deque(
            event for event in self._ready if _turn_of(event) != turn_id or not _is_output(event)
        )
        self._recount()

    def release(self, turn_id: TurnId) -> None:
        """Give out what was set aside: the turn goes on after all."""
        aside = self._aside.pop(turn_id, None)
        if aside is not None:
            self._ready.extend(aside.events)
            self._tell()

    def replace(self, snapshot: TurnSnapshot) -> None:
        """Put the turn's state in place of those of its events that wait."""
        aside = self._aside.get(snapshot.turn_id)
        if aside is None:
            kept = [event for event in self._ready if _turn_of(event) != snapshot.turn_id]
            self._ready = deque(kept)
        else:
            aside.events.clear()
        self._recount()
        self.put(snapshot)

    def _tell(self) -> None:
        if self.notify is not None and self._ready:
            self.notify()

    def _full(self) -> bool:
        count = len(self._ready) + sum(len(aside.events) for aside in self._aside.values())
        return count > self._bounds.events or self._size > self._bounds.size

    def _shrink(self) -> None:
        lists = [list(self._ready), *(aside.events for aside in self._aside.values())]
        joined = [join_deltas(events) for events in lists]
        # Half full at most afterwards, so that shrinking stays rare.
        room = self._bounds.events // 2
        if sum(map(len, joined)) > room or self._size > self._bounds.size // 2:
            joined = [self._collapse(events) for events in joined]
        self._ready = deque(joined[0])
        for aside, events in zip(self._aside.values(), joined[1:], strict=True):
            aside.events = events
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

    def _drop(self, events: Iterable[SessionEvent]) -> None:
        self._size -= sum(_size(event) for event in events if _is_output(event))

    def _recount(self) -> None:
        self._size = sum(map(_size, self._ready))
        self._size += sum(_size(event) for aside in self._aside.values() for event in aside.events)


def join_deltas(events: Iterable[SessionEvent]) -> list[SessionEvent]:
    """Join neighbouring text and thought deltas of one voice; each keeps the last one's number."""
    joined: list[SessionEvent] = []
    run: list[TextDelta | Thought] = []
    for event in events:
        if isinstance(event, (TextDelta, Thought)):
            if run and not _same_voice(run[-1], event):
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


def _same_voice(one: TextDelta | Thought, other: TextDelta | Thought) -> bool:
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
    # An interrupt.result names a turn, too, but is not one of its events.
    if isinstance(event, (TurnEvent, TurnSnapshot, UnknownEvent)):
        return event.turn_id
    return TurnId("")


def _size(event: SessionEvent) -> int:
    if isinstance(event, (TextDelta, Thought)):
        return len(event.text)
    if isinstance(event, AudioDelta):
        return len(event.audio)
    return 0
