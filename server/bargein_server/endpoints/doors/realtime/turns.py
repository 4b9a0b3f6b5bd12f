"""Turns of a session as responses: events of this one, and of the next.

A turn that needs its client is one turn of bargein and several responses: the first ends with the call, and
the next begins with `response.create`. Events between the two wait here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import json

from bargein_protocol import (
    AudioDelta,
    CallId,
    InputAccepted,
    InputId,
    InputRejected,
    ServerEvent,
    TextDelta,
    ToolCall,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    TurnEnded,
    TurnEvent,
    TurnId,
)

from .response import Response

_VISIBLE = (TextDelta, AudioDelta, ToolConfirm, TurnEnded)


class RunningTurn:
    """The current turn of a conversation.

    Args:
        input_id: Its input.
        response: The response that is written.

    Attributes:
        turn_id: The turn; None before it is accepted.
        ended: Whether the turn has ended.
        messages: The ids of the assistant's items in it.
        cut: Interrupts it, when its session is not that of the connection.
    """

    def __init__(self, input_id: InputId, response: Response) -> None:
        self.input_id = input_id
        self.response = response
        self.turn_id: TurnId | None = None
        self.ended = False
        self.messages: list[str] = []
        self.cut: Callable[[], None] = _nothing
        self._names: dict[CallId, str] = {}
        self._unsettled: set[CallId] = set()  # calls that were announced and have no result
        self._waiting: set[CallId] = set()  # calls that wait for the client
        self._approvals: dict[str, CallId] = {}
        self._asked = False  # whether the open response holds a call or a question
        self._later: list[TurnEvent] = []

    @property
    def responds(self) -> bool:
        """Whether a response is open."""
        return not self.response.over

    @property
    def suspended(self) -> bool:
        """Whether the turn goes on, or has ended, without an open response."""
        return self.response.over and (not self.ended or bool(self._later))

    @property
    def approved(self) -> bool:
        """Whether no call waits for the client, and no `response.create` comes."""
        return bool(self._approvals) and not self._waiting

    def waits_for(self, call_id: str) -> bool:
        """Return whether a call waits for the client."""
        return call_id in self._waiting

    def decided(self, item_id: str) -> CallId | None:
        """Return the call that a question was about, None for an unknown question."""
        call_id = self._approvals.get(item_id)
        if call_id is not None:
            self._waiting.discard(call_id)
        return call_id

    def answered(self, call_id: str) -> None:
        """Record that the client has answered a call."""
        self._waiting.discard(CallId(call_id))

    def go_on(self, response: Response) -> None:
        """Write the waiting events, and later ones, to a further response."""
        self.response = response
        self._asked = False
        self._approvals.clear()
        later, self._later = self._later, []
        for event in later:
            self.take(event)

    def take(self, event: ServerEvent | TurnEvent) -> bool:
        """Take an event; return whether a further response is needed for it now."""
        if isinstance(event, InputRejected):
            self.ended = True
            self.response.fail(event.code, "the server is busy; try again")
            return False
        if not isinstance(event, TurnEvent):
            return False
        if isinstance(event, InputAccepted):
            self.turn_id = event.turn_id
        elif isinstance(event, TurnEnded):
            self.ended = True
        if self.response.over:
            self._later.append(event)
            return self.approved and isinstance(event, _VISIBLE)
        self._write(event)
        return False

    def _write(self, event: TurnEvent) -> None:
        response = self.response
        if isinstance(event, (TextDelta, AudioDelta)):
            if not event.source:
                self._write_answer(event)
        elif isinstance(event, ToolCall):
            self._names[event.call_id] = event.name
            self._unsettled.add(event.call_id)
        elif isinstance(event, ToolRunning):
            if event.runs_in == "client":
                self._asked = True
                self._waiting.add(event.call_id)
                self._unsettled.discard(event.call_id)
                response.call(event.call_id, self._name(event.call_id), _text(event.arguments))
        elif isinstance(event, ToolConfirm):
            self._asked = True
            self._waiting.add(event.call_id)
            item_id = response.approval(self._name(event.call_id), _text(event.arguments))
            self._approvals[item_id] = event.call_id
            self._unsettled.discard(event.call_id)
        elif isinstance(event, ToolResult):
            self._unsettled.discard(event.call_id)
            self._waiting.discard(event.call_id)
        elif isinstance(event, TurnEnded):
            response.end(event, "turn_detected" if event.reason == "barge_in" else "client_cancelled")
        if self._asked and not self._unsettled and not response.over:
            response.complete()

    def _write_answer(self, event: TextDelta | AudioDelta) -> None:
        if isinstance(event, AudioDelta):
            self.response.text(event.text or "")
            self.response.audio(event.audio)
        else:
            self.response.text(event.text)
        if self.response.message_id is not None and self.response.message_id not in self.messages:
            self.messages.append(self.response.message_id)

    def _name(self, call_id: CallId) -> str:
        return self._names.get(call_id, "tool")


def _nothing() -> None:
    pass


def _text(arguments: Any) -> str:
    return json.encode(arguments).decode()
