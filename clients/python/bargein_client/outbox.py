"""What must reach the server although lines break.

Inputs and interrupts are kept until they are answered and sent again with the same id, which the
server answers with its first answer. Everything else that is kept may arrive twice without harm:
metadata is merged, playback only moves forward, and a tool call takes one result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from bargein_protocol import (
    JSON,
    CallId,
    ClientEvent,
    InputText,
    Interrupt,
    Playback,
    Played,
    SessionOpen,
    SessionUpdate,
    ToolDecision,
    ToolOutput,
    TurnId,
)
from bargein_protocol.types import MAX_KEYS

from .errors import TooManyPending

_KEPT_PLAYBACK = 8
_KEPT_TOOLS = 64


class Outbox:
    """Requests without an answer, and the last word on everything else.

    Inputs that were made after a change of metadata stay behind it: until one of them is answered,
    the change may not have arrived, and the agent would run with the old values.
    """

    def __init__(self) -> None:
        self.unanswered: dict[str, InputText | Interrupt] = {}
        self._metadata: dict[str, Any] = {}
        self._metadata_unsure = False
        self._behind_metadata: set[str] = set()
        self._playback: dict[TurnId, Playback] = {}
        self._tools: dict[CallId, ToolOutput | ToolDecision] = {}

    def add(self, request: InputText | Interrupt, limit: int) -> None:
        """Keep a request until it is answered.

        Raises:
            TooManyPending: `limit` requests wait; nothing has changed.
        """
        if len(self.unanswered) >= limit:
            raise TooManyPending(limit)
        self.unanswered[request.id] = request
        if self._metadata_unsure and isinstance(request, InputText):
            self._behind_metadata.add(request.id)

    def answer(self, request_id: str) -> InputText | Interrupt | None:
        """Strike a request off and return it; None when it is not waiting."""
        if request_id in self._behind_metadata:
            self._behind_metadata.clear()
            self._metadata_unsure = False
        return self.unanswered.pop(request_id, None)

    def merge(self, metadata: dict[str, Any]) -> None:
        """Remember application parameters; a None is remembered as the removal of its key."""
        self._metadata.update(metadata)
        self._metadata_unsure = True

    def report(self, turn_id: TurnId, played: Played) -> Playback:
        """Remember what was heard of a turn and return all that is known of it."""
        known = self._playback.pop(turn_id, Playback(turn_id=turn_id))
        news = {name: value for name, value in structs.asdict(played).items() if value is not None}
        known = self._playback[turn_id] = structs.replace(known, **news)
        if len(self._playback) > _KEPT_PLAYBACK:
            del self._playback[next(iter(self._playback))]
        return known

    def keep_tool(self, event: ToolOutput | ToolDecision) -> None:
        """Keep what a tool call waits for until `tool_settled`; beyond a bound the oldest is given up."""
        self._tools[event.call_id] = event
        if len(self._tools) > _KEPT_TOOLS:
            del self._tools[next(iter(self._tools))]

    def tool_settled(self, call_id: CallId) -> None:
        """Forget what was kept for a call."""
        self._tools.pop(call_id, None)

    def pending(self, opening: SessionOpen, frame_bytes: int) -> list[InputText | Interrupt]:
        """Return the requests that fit into `opening`, in order; the others follow it.

        Interrupts come in any case, so that nothing of what they stop is replayed as if it were live.
        """
        room = frame_bytes - len(JSON.encode(opening)) - len('"pending":[],')
        room -= sum(_size(r) for r in self.unanswered.values() if isinstance(r, Interrupt))
        chosen: list[InputText | Interrupt] = []
        for request in self.unanswered.values():
            if isinstance(request, InputText):
                room = -1 if request.id in self._behind_metadata else room - _size(request)
                if room < 0:
                    continue
            chosen.append(request)
        return chosen

    def after_open(self, sent: set[str], frame_bytes: int) -> list[ClientEvent]:
        """Return what follows a `session.open` that carried the requests in `sent`."""
        events: list[ClientEvent] = list(self._updates(frame_bytes))
        if events:
            self._metadata_unsure = True
        events += self._playback.values()
        events += self._tools.values()
        events += [request for request in self.unanswered.values() if request.id not in sent]
        return events

    def _updates(self, frame_bytes: int) -> Iterator[SessionUpdate]:
        """Return the merged metadata in pieces that the server reads: it came in several, too."""
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

    def lose(self) -> list[InputText | Interrupt]:
        """Forget everything but the metadata, which a fresh session needs as well.

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


def _size(event: InputText | Interrupt) -> int:
    return len(JSON.encode(event)) + 1
