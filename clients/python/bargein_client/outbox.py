"""Outgoing events: those that survive broken connections, and the queue.

Inputs and interrupts are kept until they are answered. They are sent again under the same id, and the
server repeats its first answer. The other events may arrive twice without harm: metadata is merged,
playback only moves forward, and a tool call takes one result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from bargein_protocol import (
    JSON,
    MAX_PENDING,
    CallId,
    ClientEvent,
    ErrorEvent,
    InputAccepted,
    InputAudio,
    InputCommit,
    InputQueued,
    InputRejected,
    InputText,
    InterruptResult,
    Limits,
    PendingEvent,
    Playback,
    Played,
    SessionOpen,
    SessionRewound,
    SessionUpdate,
    ToolDecision,
    ToolOutput,
    TurnEnded,
    TurnFold,
    TurnId,
)
from bargein_protocol.types import MAX_ATTACHMENTS, MAX_INPUT_CHARS, MAX_KEYS

from .errors import TooLarge, TooManyPending

T = TypeVar("T")

Outcome = (
    InputAccepted | InputQueued | InputRejected | InterruptResult | SessionRewound | ErrorEvent | TurnEnded
)
"""Answer to a request, or end of a turn."""

RequestKind = type[PendingEvent] | tuple[type[PendingEvent], ...]
INPUTS: RequestKind = (InputText, InputCommit)
"""Requests for a turn."""

MAX_QUEUED = 1024
"""Number of events that wait for a channel."""

_MAX_PLAYBACK = 8
_MAX_TOOLS = 64


def copied(value: T) -> T:
    """Return a copy of a JSON value, apart from later changes.

    Raises:
        TypeError: The value cannot be encoded as JSON or MessagePack.
    """
    try:
        copy: T = msgspec.json.decode(msgspec.json.encode(value))
        msgspec.msgpack.encode(copy)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"expected a value that JSON can hold: {error}") from error
    return copy


def check_size(event: ClientEvent, limits: Limits | None) -> None:
    """Check that an event is within the server's limits.

    Raises:
        TooLarge: The text or the frame is too large.
        UnicodeEncodeError: A text has lone surrogates.
    """
    if isinstance(event, InputText) and len(event.text) > MAX_INPUT_CHARS:
        raise TooLarge(len(event.text), MAX_INPUT_CHARS, "characters")
    if isinstance(event, InputText) and len(event.attachments or ()) > MAX_ATTACHMENTS:
        raise TooLarge(len(event.attachments or ()), MAX_ATTACHMENTS, "attachments")
    size = len(JSON.encode(event))
    if limits is not None and size > limits.frame_bytes:
        raise TooLarge(size, limits.frame_bytes, "bytes")


class Outbox:
    """Unanswered requests, and the latest reports, answers and metadata.

    Inputs that were made after a change of metadata stay behind it. Until one of them is answered, the
    change may not have arrived, and the agent would run with the old values.
    """

    def __init__(self) -> None:
        self.unanswered: dict[str, PendingEvent] = {}
        self._metadata: dict[str, Any] = {}
        self._metadata_unsure = False
        self._behind_metadata: set[str] = set()
        self._playback: dict[TurnId, Playback] = {}
        self._tools: dict[CallId, ToolOutput | ToolDecision] = {}

    def admit(self, request: PendingEvent, limits: Limits | None) -> None:
        """Keep a request until it is answered; the caller sends it.

        Raises:
            TooManyPending: Too many requests wait for an answer; nothing has changed.
            TooLarge: The request exceeds the server's limits; nothing has changed.
            UnicodeEncodeError: A text has lone surrogates; nothing has changed.
        """
        check_size(request, limits)
        limit = MAX_PENDING if limits is None else min(MAX_PENDING, limits.pending)
        if len(self.unanswered) >= limit:
            raise TooManyPending(limit)
        self.unanswered[request.id] = request
        if self._metadata_unsure and isinstance(request, InputText):
            self._behind_metadata.add(request.id)

    def answer(self, request_id: str, kind: RequestKind | None = None) -> PendingEvent | None:
        """Remove a request that was answered and return it; None when none waits.

        Args:
            request_id: The request.
            kind: Types of request that the answer is for, None for any; another request goes on waiting.
        """
        if kind is not None and not isinstance(self.unanswered.get(request_id), kind):
            return None
        if request_id in self._behind_metadata:
            self._behind_metadata.clear()
            self._metadata_unsure = False
        return self.unanswered.pop(request_id, None)

    def merge(self, metadata: dict[str, Any]) -> None:
        """Keep application parameters; a None is kept as the removal of its key."""
        self._metadata.update(metadata)
        self._metadata_unsure = True

    def report(self, turn_id: TurnId, played: Played) -> Playback:
        """Merge a playback report into the turn's earlier ones; return the sum."""
        report = self._playback.pop(turn_id, Playback(turn_id=turn_id))
        given = {name: value for name, value in structs.asdict(played).items() if value is not None}
        report = self._playback[turn_id] = structs.replace(report, **given)
        if len(self._playback) > _MAX_PLAYBACK:
            del self._playback[next(iter(self._playback))]
        return report

    def keep_tool(self, event: ToolOutput | ToolDecision) -> None:
        """Keep the answer to a tool call until `tool_settled`.

        Beyond a bound the oldest answer is dropped.
        """
        self._tools[event.call_id] = event
        if len(self._tools) > _MAX_TOOLS:
            del self._tools[next(iter(self._tools))]

    def tool_settled(self, call_id: CallId) -> None:
        """Forget the answer to a call."""
        self._tools.pop(call_id, None)

    def tools_settled(self, fold: TurnFold) -> None:
        """Forget the answers to all calls of a turn that is over."""
        for lane in fold.lanes.values():
            for call_id in lane.tools:
                self.tool_settled(call_id)

    def pending(self, opening: SessionOpen, frame_bytes: int) -> list[PendingEvent]:
        """Return the requests that fit into `opening`, in order.

        The others follow it.

        Interrupts and rewinds always fit, so that the turns that they end are not replayed as if they
        were live. An input behind a rewind follows it in either way.
        """
        room = frame_bytes - len(JSON.encode(opening)) - len('"pending":[],')
        room -= sum(_size(r) for r in self.unanswered.values() if not isinstance(r, InputText))
        chosen: list[PendingEvent] = []
        for request in self.unanswered.values():
            if isinstance(request, InputText):
                room = -1 if request.id in self._behind_metadata else room - _size(request)
                if room < 0:
                    continue
            chosen.append(request)
        return chosen

    def after_open(self, sent: set[str], frame_bytes: int) -> list[ClientEvent]:
        """Return the events after a `session.open` with the requests in `sent`."""
        events: list[ClientEvent] = list(self._updates(frame_bytes))
        if events:
            self._metadata_unsure = True
        events += self._playback.values()
        events += self._tools.values()
        events += [request for request in self.unanswered.values() if request.id not in sent]
        return events

    def _updates(self, frame_bytes: int) -> Iterator[SessionUpdate]:
        """Yield the merged metadata in pieces below the limits."""
        piece: dict[str, Any] = {}
        size = 0
        for key, value in self._metadata.items():
            grown = len(JSON.encode(SessionUpdate(metadata={key: value})))
            if piece and (size + grown > frame_bytes or len(piece) == MAX_KEYS):
                yield SessionUpdate(metadata=piece)
                piece, size = {}, 0
            piece[key] = value
            size += grown
        if piece:
            yield SessionUpdate(metadata=piece)

    def lose(self) -> list[PendingEvent]:
        """Forget everything but the metadata, which a fresh session needs too.

        Returns:
            The requests that will never be answered.
        """
        lost = list(self.unanswered.values())
        self.unanswered.clear()
        self._behind_metadata.clear()
        self._playback.clear()
        self._tools.clear()
        self._metadata = {key: value for key, value in self._metadata.items() if value is not None}
        return lost


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
        return sum(isinstance(event, InputAudio) for event in self._events)

    def append(self, *events: ClientEvent) -> None:
        """Append events of the client itself."""
        self._events += events

    def append_request(self, event: PendingEvent) -> None:
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
        if len(self._events) >= MAX_QUEUED:
            raise TooManyPending(MAX_QUEUED)
        self._events.append(event)

    def append_playback(self, report: Playback) -> None:
        """Append a playback report in place of an older one for the same turn."""
        if not self.accepts:
            return
        self._events = [
            event
            for event in self._events
            if not (isinstance(event, Playback) and event.turn_id == report.turn_id)
        ]
        self._events.append(report)


def _size(event: PendingEvent) -> int:
    return len(JSON.encode(event)) + 1
