"""UI message stream of the AI SDK: the chunks of a turn.

All versions from 5 on read them. Version 5 has no approvals, so a call that needs one is refused there. A
stream ends with the question to the client; the next request goes on in the same message.

Clients find the part of a call's input in the current step alone, and later they would show the call twice.
So the end of a step waits for the inputs of its calls, and one call at a time is shown while its arguments
grow. A call that asks the client has a step without other calls, because pages send their answers when all
calls of the last step have one. A stream that goes on with a turn has at least one step of its own, because
pages that find their answers in the last step send them again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
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
        shown: Calls whose input an earlier stream has shown, and whether it named the server as their place.
        refuse: Refuses a call that needs an approval; None for a client that can be asked.
    """

    def __init__(
        self,
        turn_id: TurnId,
        waits: Callable[[str], bool],
        answered: Collection[str] = (),
        denied: Collection[str] = (),
        shown: Mapping[str, bool] | None = None,
        refuse: Callable[[CallId], None] | None = None,
    ) -> None:
        super().__init__(waits, answered)
        self._turn_id = turn_id
        self._denied = set(denied)
        self._refuse = refuse
        self._began = False
        self._continues = bool(answered)
        self._in_step = False
        self._step_is_over = False  # its end waits for the inputs of its calls
        self._step_calls: set[str] = set()
        self._open: dict[tuple[str, str], str] = {}  # ids of open parts, by kind and source
        self._parts = 0
        self._live: CallId | None = None  # the call that is shown while its arguments grow
        self._announced: set[str] = set()  # calls whose input is to come
        self._inputs: set[str] = set(shown or ())  # calls whose input is complete
        self._on_server = {call_id for call_id, on_server in (shown or {}).items() if on_server}

    def text(self, event: TextDelta) -> Iterator[bytes]:
        """Translate a piece of the answer; each voice has parts of its own."""
        yield from self._delta("text", event.source, event.text)

    def thought(self, event: Thought) -> Iterator[bytes]:
        """Translate a piece of thinking."""
        yield from self._delta("reasoning", event.source, event.text)

    def call(self, event: ToolCall) -> Iterator[bytes]:
        """Translate the start of a tool call."""
        if event.call_id in self._inputs:
            return
        self._announced.add(event.call_id)
        if self._live is not None:
            return
        yield from self._end_step() if self._step_is_over or self._step_calls else self._close_parts()
        yield from self._step()
        self._live = event.call_id
        self._step_calls.add(event.call_id)
        yield self._chunk("tool-input-start", toolCallId=event.call_id, toolName=event.name)

    def arguments(self, event: ToolCallDelta) -> Iterator[bytes]:
        """Translate a piece of a call's arguments."""
        if event.call_id == self._live:
            yield self._chunk("tool-input-delta", toolCallId=event.call_id, inputTextDelta=event.arguments)

    def confirm(self, event: ToolConfirm, waits: bool) -> Iterator[bytes]:
        """Translate a request for a decision, with which the stream ends."""
        asks = waits and self._refuse is None
        if asks:
            yield from self._own_step(event.call_id)
        yield from self._input(event.call_id, True)
        if asks:
            yield self._chunk("tool-approval-request", toolCallId=event.call_id, approvalId=event.call_id)
            yield from self._finish({})
        elif waits and self._refuse is not None:
            self._refuse(event.call_id)

    def running(self, event: ToolRunning, waits: bool) -> Iterator[bytes]:
        """Translate the start of a tool's work.

        The stream ends when the client runs it. A client that reads the turn again does not run it again.
        """
        if waits:
            if event.call_id in self._on_server:  # it was taken for a tool of the server
                self._inputs.discard(event.call_id)
            yield from self._own_step(event.call_id)
        yield from self._input(event.call_id, not waits)
        if waits:
            yield from self._finish({"finishReason": "tool-calls"})

    def result(self, event: ToolResult) -> Iterator[bytes]:
        """Translate a result."""
        yield from self._start()
        call_id = event.call_id
        if call_id not in self._inputs and event.status != "completed":
            yield from self._complete(call_id, "tool-input-error", errorText=event.error or event.status)
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
            yield from self._close_parts()
            self._step_is_over = self._in_step
            if not self._announced:
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
            yield from self._cancel_calls(failure_text(event.reason))
            yield from self.failed(event.reason, failure_text(event.reason))
            return
        metadata: dict[str, Any] = {}
        if event.usage is not None:
            used = event.usage
            usage = {"inputTokens": used.input_tokens, "outputTokens": used.output_tokens}
            metadata["messageMetadata"] = {"usage": usage}
        if event.status == "interrupted":
            yield from self._cancel_calls("interrupted")
            yield from self._last_step()
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
            self._in_step, self._continues = True, False
            yield self._chunk("start-step")

    def _last_step(self) -> Iterator[bytes]:
        """Begin a step in a stream that goes on with a turn and has none."""
        if self._continues:
            yield from self._step()

    def _own_step(self, call_id: CallId) -> Iterator[bytes]:
        """End a step that has other calls alone."""
        if self._step_calls and call_id not in self._step_calls:
            yield from self._end_step()

    def _end_step(self) -> Iterator[bytes]:
        yield from self._close_parts()
        if self._live is not None:  # most calls are for the server
            self._on_server.add(self._live)
            yield from self._input(self._live, True)
        if self._in_step:
            yield self._chunk("finish-step")
        self._in_step = self._step_is_over = False
        self._step_calls.clear()

    def _delta(self, kind: str, source: str, text: str) -> Iterator[bytes]:
        part = self._open.get((kind, source))
        if part is None:
            yield from self._close_parts(source)
            if self._step_is_over and self._live is None:
                yield from self._end_step()
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
        if call_id not in self._inputs:
            yield from self._complete(call_id, "tool-input-available", on_server)

    def _complete(self, call_id: CallId, kind: str, on_server: bool = True, **fields: str) -> Iterator[bytes]:
        self._inputs.add(call_id)
        self._announced.discard(call_id)
        call = self.calls[call_id]
        yield from self._close_parts()
        yield from self._step()
        self._step_calls.add(call_id)
        if self._live == call_id:
            self._live = None
        executed = {"providerExecuted": True} if on_server else {}
        yield self._chunk(
            kind, toolCallId=call_id, toolName=call.name or "tool",
            input=given_arguments(call), **executed, **fields,
        )  # fmt: skip
        if self._step_is_over and not self._announced:
            yield from self._end_step()

    def _cancel_calls(self, error: str) -> Iterator[bytes]:
        """End the calls that will have no result."""
        if self._live is not None:
            yield from self._complete(self._live, "tool-input-error", errorText=error)
        for call_id in self.calls:
            if call_id in self._inputs and call_id not in self.settled:
                yield self._chunk("tool-output-error", toolCallId=call_id, errorText=error)

    def _finish(self, fields: dict[str, Any]) -> Iterator[bytes]:
        yield from self._start()
        yield from self._last_step()
        yield from self._end_step()
        self.over = True
        yield self._chunk("finish", **fields)
