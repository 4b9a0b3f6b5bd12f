"""Events of AG-UI for a turn, in the order that its client enforces.

Everything that is open is closed before the end, also of a turn that was cut. Clients before 1.0 have neither
the outcome `cancelled` nor pending calls; they get a custom event for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from msgspec import json

from bargein_protocol import (
    CallId,
    Data,
    Progress,
    Status,
    StepEnded,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    TurnEnded,
    TurnEvent,
    Usage,
)

from .translation import TurnTranslator, failure_text, given_arguments, output_text

VERSION = "1.0"

_encode = json.Encoder().encode

DECISION = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}},
    "required": ["approved"],
}
"""JSON Schema of the answer to a request for consent."""


class Run(TurnTranslator):
    """A run: a turn, or the rest of one after the client's answer.

    Args:
        thread_id: The client's id of the conversation.
        run_id: The client's id of the run.
        current: Whether the client has version 1.0 or a later one.
        waits: Returns whether a call waits for the client now.
        answered: Calls whose questions the client has answered.
    """

    def __init__(
        self,
        thread_id: str,
        run_id: str,
        current: bool,
        waits: Callable[[str], bool],
        answered: Collection[str] = (),
    ) -> None:
        super().__init__(waits, answered)
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._current = current
        self._began = False
        self._messages = 0
        self._text: dict[str, str] = {}  # ids of open messages, by source
        self._reasoning: str | None = None
        self._calls: set[CallId] = set()  # open calls
        self._complete = {CallId(call_id) for call_id in answered}

    def read(self, event: TurnEvent) -> Iterator[bytes]:
        """Yield the events that an event becomes."""
        if not self._began:
            self._began = True
            version = {"protocolVersion": VERSION} if self._current else {}
            yield self._event("RUN_STARTED", **self._ids, **version)
        yield from super().read(event)

    def text(self, event: TextDelta) -> Iterator[bytes]:
        """Translate a piece of the answer.

        Each voice has messages of its own, with its name.
        """
        message = self._text.get(event.source)
        if message is None:
            yield from self._close_reasoning()
            message = self._text[event.source] = self._message_id()
            metadata = {"metadata": {"source": event.source}} if event.source and self._current else {}
            yield self._event("TEXT_MESSAGE_START", messageId=message, role="assistant", **metadata)
        if event.text:
            yield self._event("TEXT_MESSAGE_CONTENT", messageId=message, delta=event.text)

    def thought(self, event: Thought) -> Iterator[bytes]:
        """Translate a piece of thinking."""
        if self._reasoning is None:
            yield from self._close_text()
            self._reasoning = self._message_id()
            yield self._event("REASONING_START", messageId=self._reasoning)
            yield self._event("REASONING_MESSAGE_START", messageId=self._reasoning, role="reasoning")
        if event.text:
            yield self._event("REASONING_MESSAGE_CONTENT", messageId=self._reasoning, delta=event.text)

    def call(self, event: ToolCall) -> Iterator[bytes]:
        """Translate the start of a tool call."""
        yield from self._open_call(event.call_id, event.name)

    def arguments(self, event: ToolCallDelta) -> Iterator[bytes]:
        """Translate a piece of a call's arguments."""
        if event.call_id in self._calls and event.arguments:
            yield self._event("TOOL_CALL_ARGS", toolCallId=event.call_id, delta=event.arguments)

    def confirm(self, event: ToolConfirm, waits: bool) -> Iterator[bytes]:
        """Translate a request for a decision, with which the run ends."""
        yield from self._close_call(event.call_id)
        if waits:
            name = self.calls[event.call_id].name or "the tool"
            interrupt = {
                "id": event.call_id,
                "reason": "tool_call",
                "toolCallId": event.call_id,
                "message": f"Allow {name}?",
                "responseSchema": DECISION,
            }
            yield from self._finish({"type": "interrupt", "interrupts": [interrupt]})

    def running(self, event: ToolRunning, waits: bool) -> Iterator[bytes]:
        """Translate the start of a tool's work.

        The run ends when the client runs it.
        """
        yield from self._close_call(event.call_id)
        if waits:
            yield from self._finish({"type": "success", "pendingToolCallIds": [event.call_id]})

    def result(self, event: ToolResult) -> Iterator[bytes]:
        """Translate a result."""
        yield from self._close_call(event.call_id)
        yield self._event(
            "TOOL_CALL_RESULT",
            messageId=self._message_id(),
            toolCallId=event.call_id,
            content=output_text(event),
            role="tool",
        )

    def step(self, event: StepEnded) -> Iterator[bytes]:
        """Translate the end of a step.

        Its start is not known before, so both come together.
        """
        if not event.source:
            yield from self._close()
            name = event.kind or "step"
            yield self._event("STEP_STARTED", stepName=name)
            yield self._event("STEP_FINISHED", stepName=name)

    def data(self, event: Data) -> Iterator[bytes]:
        """Translate an event of the application.

        That of the name `state` is the shared state.
        """
        if event.name == "state":
            yield self._event("STATE_SNAPSHOT", snapshot=event.value)
        else:
            yield self._event("CUSTOM", name=event.name, value=event.value)

    def status(self, event: Status) -> Iterator[bytes]:
        """Translate the agent's current activity."""
        yield self._event("CUSTOM", name="status", value={"message": event.message, "icon": event.icon})

    def progress(self, event: Progress) -> Iterator[bytes]:
        """Translate progress."""
        value = {"value": event.value, "total": event.total, "unit": event.unit, "label": event.label}
        yield self._event("CUSTOM", name="progress", value=value)

    def end(self, event: TurnEnded) -> Iterator[bytes]:
        """Translate the end of the turn."""
        if event.status == "failed":
            yield from self.failed(event.reason, failure_text(event.reason))
        elif event.status == "interrupted":
            if not self._current:
                yield from self._close()
                yield self._event("CUSTOM", name="cancelled", value={"reason": event.reason})
            yield from self._finish({"type": "cancelled"}, event.usage)
        else:
            yield from self._finish({"type": "success"}, event.usage)

    def failed(self, code: str, message: str) -> Iterator[bytes]:
        """Translate a failure, after which nothing may come."""
        yield from self._close()
        yield self._event("RUN_ERROR", message=message, code=code)

    # --- order -----------------------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> bytes:
        return _encode({"type": kind, **fields})

    def _message_id(self) -> str:
        self._messages += 1
        return f"{self._ids['runId']}-{self._messages}"

    def _open_call(self, call_id: CallId, name: str) -> Iterator[bytes]:
        yield from self._close_text()
        if call_id not in self._calls and call_id not in self._complete:
            self._calls.add(call_id)
            yield self._event("TOOL_CALL_START", toolCallId=call_id, toolCallName=name or "tool")

    def _close_call(self, call_id: CallId) -> Iterator[bytes]:
        if call_id in self._complete:
            return
        call = self.calls[call_id]
        yield from self._open_call(call_id, call.name)
        if not call.arguments:
            arguments = _encode(given_arguments(call)).decode()
            yield self._event("TOOL_CALL_ARGS", toolCallId=call_id, delta=arguments)
        self._calls.discard(call_id)
        self._complete.add(call_id)
        yield self._event("TOOL_CALL_END", toolCallId=call_id)

    def _close_text(self) -> Iterator[bytes]:
        for message in self._text.values():
            yield self._event("TEXT_MESSAGE_END", messageId=message)
        self._text.clear()
        yield from self._close_reasoning()

    def _close_reasoning(self) -> Iterator[bytes]:
        if self._reasoning is not None:
            yield self._event("REASONING_MESSAGE_END", messageId=self._reasoning)
            yield self._event("REASONING_END", messageId=self._reasoning)
            self._reasoning = None

    def _close(self) -> Iterator[bytes]:
        yield from self._close_text()
        for call_id in sorted(self._calls):
            yield self._event("TOOL_CALL_END", toolCallId=call_id)
            self._complete.add(call_id)
        self._calls.clear()

    def _finish(self, outcome: dict[str, Any], usage: Usage | None = None) -> Iterator[bytes]:
        yield from self._close()
        self.over = True
        fields: dict[str, Any] = {}
        if self._current or outcome["type"] == "interrupt":
            fields["outcome"] = outcome
        if usage is not None and self._current:
            fields["usage"] = [{"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens}]
        yield self._event("RUN_FINISHED", **self._ids, **fields)
