"""The half of the core that the application asks; the other half is `ClientCore`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

import bargein_protocol as bp
from bargein_protocol import ClientEvent, InputText, Interrupt
from bargein_protocol.types import MAX_INPUT_CHARS

from .errors import TooLarge, TooManyPending
from .inbox import Bounds, Inbox
from .outbox import Outbox
from .phases import Phase
from .tracked import TrackedTurn
from .turntable import TurnTable

MAX_OUTGOING = 1024


class Asking:
    """Takes what the application asks for, and has it sent on this line or on the next.

    Args:
        bounds: How much waits for one consumer.

    Attributes:
        phase: How far the line is.
        limits: What the server accepts; None before the first `session.opened`.
        turns: The turns that have not ended.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.phase = Phase.OFFLINE
        self.limits: bp.Limits | None = None
        self.turns = TurnTable(bounds)
        self._outbox = Outbox()
        self._outgoing: list[ClientEvent] = []

    # --- for the application ---------------------------------------------------------------------

    def subscribe(self) -> Inbox:
        """Return a new inbox that gets every event from now on."""
        return self.turns.subscribe()

    def send_input(self, event: InputText) -> TrackedTurn:
        """Ask for a turn. An input that is meant to interrupt mutes what runs (contract 2).

        When that is not what the server does with it, what was kept is delivered.

        Raises:
            TooManyPending: Too many requests wait for an answer.
            TooLarge: The server would not read it.
            TypeError: The metadata cannot be written as JSON.
        """
        if len(event.text) > MAX_INPUT_CHARS:
            raise TooLarge(len(event.text), MAX_INPUT_CHARS, "characters")
        self._admit(event)
        for turn in self.turns.not_queued() if event.on_busy in (None, "interrupt") else ():
            if (played := turn.taken()) is not None:
                turn.implied = True
                self._report(turn.fold.turn_id, played)
            self.turns.mute(turn, event.id)
        if self._ready:
            self._outgoing.append(event)
        return self.turns.add(bp.InputId(event.id))

    def interrupt(self, event: Interrupt, turn: TrackedTurn) -> None:
        """End a turn and mute it from now on; the core fills in which turn and what was played.

        Raises:
            TooManyPending: Too many requests wait for an answer.
        """
        if turn.turn_id is not None:
            event = structs.replace(event, turn_id=turn.turn_id)
        else:
            event = structs.replace(event, input_id=turn.input_id)
        if event.played is None:
            # What still arrives is not shown, so a live socket's word on what was heard is too much.
            played = turn.taken()
            turn.implied = turn.implied or played is not None
            event = structs.replace(event, played=played)
        else:
            turn.reported = True
        self._admit(event)
        if self._ready:
            self._outgoing.append(event)
        self.turns.mute(turn, event.id)

    def hold(self, turn: TrackedTurn) -> None:
        """Stop a turn's output. Offline it is dropped: a hold is about now."""
        if turn.turn_id is not None and self._ready:
            self._emit(bp.TurnHold(turn_id=turn.turn_id))

    def resume(self, turn: TrackedTurn) -> None:
        """Let a held turn go on. Offline it is dropped: an undecided hold ends by itself."""
        if turn.turn_id is not None and self._ready:
            self._emit(bp.TurnResume(turn_id=turn.turn_id))

    def playback(self, turn: TrackedTurn, played: bp.Played) -> None:
        """Report what was heard of a turn so far; nothing can have been heard of one without an id."""
        if turn.turn_id is not None:
            turn.reported = True
            self._report(turn.turn_id, played)

    def update(self, metadata: dict[str, Any]) -> None:
        """Merge application parameters into the session's metadata; a None removes its key."""
        event = bp.SessionUpdate(metadata=metadata)
        self._fits(event)
        if self._ready:
            self._emit(event)
        self._outbox.merge(metadata)

    def answer_tool(self, event: bp.ToolOutput | bp.ToolDecision) -> None:
        """Give a call what it waits for."""
        self._fits(event)
        if self._ready:
            self._emit(event)
        self._outbox.keep_tool(event)

    def close_session(self) -> None:
        """End the session for good; does nothing while there is no line."""
        if self.phase is not Phase.OFFLINE:
            self._outgoing.append(bp.SessionClose())

    # --- sending ---------------------------------------------------------------------------------

    @property
    def _ready(self) -> bool:
        return self.phase in (Phase.LIVE, Phase.REPLAYING)

    def _emit(self, event: ClientEvent) -> None:
        if len(self._outgoing) >= MAX_OUTGOING:
            raise TooManyPending(MAX_OUTGOING)
        self._outgoing.append(event)

    def _fits(self, event: ClientEvent) -> None:
        size = len(bp.JSON.encode(event))
        if self.limits is not None and size > self.limits.frame_bytes:
            raise TooLarge(size, self.limits.frame_bytes, "bytes")

    def _admit(self, event: InputText | Interrupt) -> None:
        """Keep a request until it is answered; the caller sends it, on this line or on the next."""
        self._fits(event)
        limit = min(bp.MAX_PENDING, self.limits.pending) if self.limits is not None else bp.MAX_PENDING
        self._outbox.add(event, limit)

    def _report(self, turn_id: bp.TurnId, played: bp.Played) -> None:
        known = self._outbox.report(turn_id, played)
        if self._ready:
            waiting = (e for e in self._outgoing if not (isinstance(e, bp.Playback) and e.turn_id == turn_id))
            self._outgoing = [*waiting, known]
