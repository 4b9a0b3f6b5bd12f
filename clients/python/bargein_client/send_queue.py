"""Queue of the events that wait for the current channel."""

from __future__ import annotations

from collections.abc import Iterable

import bargein_protocol as bp
from bargein_protocol import ClientEvent

from .errors import TooManyPending

MAX_EVENTS = 1024


class SendQueue:
    """Events to send on the current channel, in order.

    Attributes:
        accepts: Whether the session is open on the channel. Until then events of the application are
            not taken: the outbox keeps those that must not be lost.
    """

    def __init__(self) -> None:
        self.accepts = False
        self._events: list[ClientEvent] = []

    def __len__(self) -> int:
        return len(self._events)

    def reset(self, events: Iterable[ClientEvent] = ()) -> None:
        """Replace the content, for another channel or none."""
        self.accepts = False
        self._events = list(events)

    def drain(self) -> list[ClientEvent]:
        """Return the events in order and empty the queue."""
        events, self._events = self._events, []
        return events

    def audio_events(self) -> int:
        """Return the number of waiting pieces of sound."""
        return sum(isinstance(event, bp.InputAudio) for event in self._events)

    def append(self, *events: ClientEvent) -> None:
        """Append events of the client itself."""
        self._events += events

    def append_request(self, event: bp.PendingEvent) -> None:
        """Append a request, whose number the outbox bounds."""
        if self.accepts:
            self._events.append(event)

    def append_bounded(self, event: ClientEvent) -> None:
        """Append an event.

        Raises:
            TooManyPending: The queue is full; nothing has changed.
        """
        if not self.accepts:
            return
        if len(self._events) >= MAX_EVENTS:
            raise TooManyPending(MAX_EVENTS)
        self._events.append(event)

    def append_playback(self, report: bp.Playback) -> None:
        """Append a playback report in place of an older one for the same turn."""
        if not self.accepts:
            return
        self._events = [
            event
            for event in self._events
            if not (isinstance(event, bp.Playback) and event.turn_id == report.turn_id)
        ]
        self._events.append(report)
