"""Translation of a turn's events: the common part of all doors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
from msgspec import Struct, json

from bargein_protocol import (
    AudioDelta,
    CallId,
    Code,
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
)
from bargein_protocol.open_values import value_fault

from ...core.history import result_message

COMMENT = b": heartbeat\n\n"
"""A comment of an event stream; clients ignore it."""


class Call(Struct):
    """A tool call as far as it was translated.

    Args:
        name: The tool.
        arguments: The pieces of its arguments, as JSON text.
        given: The complete arguments, once they are known.
    """

    call_id: CallId
    name: str = ""
    arguments: str = ""
    given: dict[str, Any] | None = None


class TurnTranslator:
    """Translator of one turn (`turn_stream.Translator`).

    A protocol whose streams end with a question to the client continues its turn in another stream. That one
    reads the turn from its first event again, and leaves out everything through the questions that the client
    has answered.

    Args:
        waits: Returns whether a call waits for the client now.
        answered: Calls whose questions the client has answered.

    Attributes:
        over: Whether the stream is complete.
        heartbeat: Bytes that keep a silent stream open.
        calls: The calls so far.
        settled: Calls that have their last result.
    """

    heartbeat = COMMENT

    def __init__(self, waits: Callable[[str], bool], answered: Collection[str] = ()) -> None:
        self.over = False
        self.calls: dict[CallId, Call] = {}
        self.settled: set[CallId] = set()
        self._waits = waits
        self._answered = set(answered)
        self._handlers: dict[type[TurnEvent], Callable[[Any], Iterator[bytes]]] = {
            TextDelta: self.text,
            Thought: self.thought,
            ToolCall: self.call,
            ToolCallDelta: self.arguments,
            ToolConfirm: self._confirm,
            ToolRunning: self._running,
            ToolResult: self.result,
            StepEnded: self.step,
            Data: self.data,
            Status: self.status,
            Progress: self.progress,
            AudioDelta: self.audio,
            TurnEnded: self._end,
        }

    def read(self, event: TurnEvent) -> Iterator[bytes]:
        """Yield the pieces that an event becomes."""
        self._record(event)
        if self._answered and not isinstance(event, TurnEnded):
            if isinstance(event, (ToolConfirm, ToolRunning, ToolResult)):
                self._answered.discard(event.call_id)
            return
        handler = self._handlers.get(type(event))
        if handler is not None:
            yield from handler(event)

    def cut(self, code: Code) -> Iterator[bytes]:
        """Yield the last pieces of a stream that ends before its turn."""
        self.over = True
        yield from self.failed(code.name, code.reason)

    def _record(self, event: TurnEvent) -> None:
        if isinstance(event, (ToolCall, ToolCallDelta, ToolConfirm, ToolRunning, ToolResult)):
            call = self.calls.setdefault(event.call_id, Call(event.call_id))
            if isinstance(event, ToolCall):
                call.name = event.name
            elif isinstance(event, ToolCallDelta):
                call.arguments += event.arguments
            elif not isinstance(event, ToolResult):
                call.given = event.arguments
            elif event.status != "running":
                self.settled.add(event.call_id)

    def _confirm(self, event: ToolConfirm) -> Iterator[bytes]:
        yield from self.confirm(event, self._waits(event.call_id))

    def _running(self, event: ToolRunning) -> Iterator[bytes]:
        yield from self.running(event, event.runs_in == "client" and self._waits(event.call_id))

    def _end(self, event: TurnEnded) -> Iterator[bytes]:
        self.over = True
        yield from self.end(event)

    # --- what a protocol has -----------------------------------------------------------------------

    def text(self, event: TextDelta) -> Iterator[bytes]:
        """Translate a piece of the answer."""
        yield from ()

    def thought(self, event: Thought) -> Iterator[bytes]:
        """Translate a piece of thinking."""
        yield from ()

    def call(self, event: ToolCall) -> Iterator[bytes]:
        """Translate the start of a tool call."""
        yield from ()

    def arguments(self, event: ToolCallDelta) -> Iterator[bytes]:
        """Translate a piece of a call's arguments."""
        yield from ()

    def confirm(self, event: ToolConfirm, waits: bool) -> Iterator[bytes]:
        """Translate a request for a decision, waiting or decided."""
        yield from ()

    def running(self, event: ToolRunning, waits: bool) -> Iterator[bytes]:
        """Translate the start of a tool's work, on the server or in the client."""
        yield from ()

    def result(self, event: ToolResult) -> Iterator[bytes]:
        """Translate a result."""
        yield from ()

    def step(self, event: StepEnded) -> Iterator[bytes]:
        """Translate the end of a step."""
        yield from ()

    def data(self, event: Data) -> Iterator[bytes]:
        """Translate an event of the application."""
        yield from ()

    def status(self, event: Status) -> Iterator[bytes]:
        """Translate the agent's current activity."""
        yield from ()

    def progress(self, event: Progress) -> Iterator[bytes]:
        """Translate progress."""
        yield from ()

    def audio(self, event: AudioDelta) -> Iterator[bytes]:
        """Translate speech; its words, where the protocol has no sound."""
        if event.text:
            yield from self.text(TextDelta(source=event.source, text=event.text))

    def end(self, event: TurnEnded) -> Iterator[bytes]:
        """Translate the end of the turn."""
        yield from ()

    def failed(self, code: str, message: str) -> Iterator[bytes]:
        """Translate a failure that ends the stream."""
        yield from ()


def given_arguments(call: Call) -> Any:
    """Return the complete arguments of a call, or the model's text of them."""
    if call.given is not None:
        return call.given
    try:
        given = json.decode(call.arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):  # the last for deep nesting
        return {}
    return given if value_fault(given) is None else {}


def output_text(event: ToolResult) -> str:
    """Return a result as the text that a model gets."""
    return str(result_message(event.call_id, event.status, event.output, event.error)["content"])


def failure_text(reason: str) -> str:
    """Return a text for people about a turn that failed.

    It has no details of the server.
    """
    return FAILURES.get(reason, "the agent failed")


FAILURES = {
    "timeout": "the turn took too long",
    "no_output": "the agent gave no output for too long",
    "upstream": "the model could not be reached",
    "overload": "the server is busy; try again",
    "shutdown": "the server is shutting down; try again",
    "node_lost": "the server was restarted; try again",
}
