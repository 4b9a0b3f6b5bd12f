"""UI message stream of the AI SDK: the chunks of a turn.

All versions from 5 on read them. Version 5 has no approvals, so a call that needs one is refused there. A
stream ends with the question to the client; the next request goes on in the same message.
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
    TurnId,
)

from .translation import TurnTranslator, failure_text, given_arguments

_encode = json.Encoder().encode


class UiMessageStream(TurnTranslator):
    """A turn as chunks, each of which is JSON.

    Args:
        turn_id: The turn, whose id is that of the message.
        waits: Returns whether a call waits for the client now.
        answered: Calls whose questions the client has answered.
        denied: Calls that the client has not allowed.
        refuse: Refuses a call that needs an approval; None for a client that can be asked.
    """

    def __init__(
        self,
        turn_id: TurnId,
        waits: Callable[[str], bool],
        answered: Collection[str] = (),
        denied: Collection[str] = (),
        refuse: Callable[[CallId], None] | None = None,
    ) -> None:
        super().__init__(waits, answered)
        self._turn_id = turn_id
        self._denied = set(denied)
        self._refuse = refuse
        self._began = False
        self._in_step = False
        self._open: dict[tuple[str, str], str] = {}  # ids of open parts, by kind and source
        self._parts = 0
        self._inputs: set[CallId] = set()  # calls whose input is complete

    def text(self, event: TextDelta) -> Iterator[bytes]:
        """Translate a piece of the answer; each voice has parts of its own."""
        yield from self._delta("text", event.source, event.text)

    def thought(self, event: Thought) -> Iterator[bytes]:
        """Translate a piece of thinking."""
        yield from self._delta("reasoning", event.source, event.text)

    def call(self, event: ToolCall) -> Iterator[bytes]:
        """Translate the start of a tool call."""
        yield from self._close_parts()
        yield from self._step()
        yield self._chunk("tool-input-start", toolCallId=event.call_id, toolName=event.name)

    def arguments(self, event: ToolCallDelta) -> Iterator[bytes]:
        """Translate a piece of a call's arguments."""
        if self.calls[event.call_id].name and event.call_id not in self._inputs:
            yield self._chunk("tool-input-delta", toolCallId=event.call_id, inputTextDelta=event.arguments)

    def confirm(self, event: ToolConfirm, waits: bool) -> Iterator[bytes]:
        """Translate a request for a decision, with which the stream ends."""
        yield from self._input(event.call_id, True)
        if self._refuse is not None:
            if waits:
                self._refuse(event.call_id)
            return
        yield self._chunk("tool-approval-request", toolCallId=event.call_id, approvalId=event.call_id)
        if waits:
            yield from self._finish({})

    def running(self, event: ToolRunning, waits: bool) -> Iterator[bytes]:
        """Translate the start of a tool's work.

        The stream ends when the client runs it.
        """
        yield from self._input(event.call_id, event.runs_in == "server")
        if waits:
            yield from self._finish({"finishReason": "tool-calls"})

    def result(self, event: ToolResult) -> Iterator[bytes]:
        """Translate a result."""
        yield from self._start()
        call_id = event.call_id
        shown = call_id in self._inputs or call_id in self.answered_before
        if not shown and event.status != "completed":
            yield from self._close_parts()
            yield from self._step()
            name = self.calls[call_id].name or "tool"
            error = event.error or event.status
            yield self._chunk(
                "tool-input-error", toolCallId=call_id, toolName=name, errorText=error,
                input=given_arguments(self.calls[call_id]), providerExecuted=True,
            )  # fmt: skip
            return
        yield from self._input(call_id, True)
        if call_id in self._denied:
            yield self._chunk("tool-output-denied", toolCallId=call_id)
        elif event.status == "completed":
            yield self._chunk("tool-output-available", toolCallId=call_id, output=event.output)
        elif event.status == "running":
            output = {"status": "running"}
            yield self._chunk("tool-output-available", toolCallId=call_id, output=output, preliminary=True)
        else:
            yield self._chunk("tool-output-error", toolCallId=call_id, errorText=event.error or event.status)

    def step(self, event: StepEnded) -> Iterator[bytes]:
        """Translate the end of a step of the agent's own voice.

        The next begins with the next output.
        """
        if not event.source:
            yield from self._end_step()

    def data(self, event: Data) -> Iterator[bytes]:
        """Translate an event of the application."""
        yield from self._start()
        yield self._chunk(f"data-{event.name}", data=event.value)

    def status(self, event: Status) -> Iterator[bytes]:
        """Translate the current activity, which no message keeps."""
        yield from self._start()
        yield self._chunk("data-status", data={"message": event.message, "icon": event.icon}, transient=True)

    def progress(self, event: Progress) -> Iterator[bytes]:
        """Translate progress, whose part is replaced by the next."""
        yield from self._start()
        data = {"value": event.value, "total": event.total, "unit": event.unit, "label": event.label}
        yield self._chunk("data-progress", id=f"{self._turn_id}-progress", data=data)

    def end(self, event: TurnEnded) -> Iterator[bytes]:
        """Translate the end of the turn."""
        yield from self._start()
        if event.status == "failed":
            yield from self.failed(event.reason, failure_text(event.reason))
            return
        metadata: dict[str, Any] = {}
        if event.usage is not None:
            used = event.usage
            usage = {"inputTokens": used.input_tokens, "outputTokens": used.output_tokens}
            metadata["messageMetadata"] = {"usage": usage}
        if event.status == "interrupted":
            yield from self._end_step()
            yield self._chunk("abort", reason=event.reason, **metadata)
            return
        reasons = {"completed": "stop", "length": "length", "content_filter": "content-filter"}
        yield from self._finish({"finishReason": reasons.get(event.reason, "other"), **metadata})

    def failed(self, code: str, message: str) -> Iterator[bytes]:
        """Translate a failure."""
        yield from self._start()
        yield from self._end_step()
        yield self._chunk("error", errorText=message)

    # --- parts -----------------------------------------------------------------------------------

    def _chunk(self, kind: str, **fields: Any) -> bytes:
        return _encode({"type": kind, **fields})

    def _start(self) -> Iterator[bytes]:
        if not self._began:
            self._began = True
            yield self._chunk("start", messageId=self._turn_id)

    def _step(self) -> Iterator[bytes]:
        yield from self._start()
        if not self._in_step:
            self._in_step = True
            yield self._chunk("start-step")

    def _end_step(self) -> Iterator[bytes]:
        yield from self._close_parts()
        if self._in_step:
            self._in_step = False
            yield self._chunk("finish-step")

    def _delta(self, kind: str, source: str, text: str) -> Iterator[bytes]:
        part = self._open.get((kind, source))
        if part is None:
            yield from self._close_parts(source)
            yield from self._step()
            self._parts += 1
            part = self._open[kind, source] = f"{self._turn_id}-{len(self.calls)}-{self._parts}"
            metadata = {"providerMetadata": {"bargein": {"source": source}}} if source else {}
            yield self._chunk(f"{kind}-start", id=part, **metadata)
        yield self._chunk(f"{kind}-delta", id=part, delta=text)

    def _close_parts(self, source: str | None = None) -> Iterator[bytes]:
        """Close the open parts of a voice, or of all."""
        for key in [key for key in self._open if source is None or key[1] == source]:
            yield self._chunk(f"{key[0]}-end", id=self._open.pop(key))

    def _input(self, call_id: CallId, on_server: bool) -> Iterator[bytes]:
        """Complete a call's input.

        Clients run calls without `providerExecuted`, and wait for them.
        """
        if call_id in self._inputs or call_id in self.answered_before:
            return
        self._inputs.add(call_id)
        call = self.calls[call_id]
        yield from self._close_parts()
        yield from self._step()
        executed = {"providerExecuted": True} if on_server else {}
        yield self._chunk(
            "tool-input-available", toolCallId=call_id, toolName=call.name or "tool",
            input=given_arguments(call), **executed,
        )  # fmt: skip

    def _finish(self, fields: dict[str, Any]) -> Iterator[bytes]:
        yield from self._start()
        yield from self._end_step()
        self.over = True
        yield self._chunk("finish", **fields)
