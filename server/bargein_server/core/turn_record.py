"""Record of one turn: state, waiting output, events, heard position.

`lifecycle` has the table of its transitions, which the turn scheduler triggers.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Sequence
from itertools import islice
from math import inf
from typing import Any

from msgspec import Struct, field, json
from msgspec.structs import replace

from bargein_protocol import (
    AgentOutput,
    InputText,
    Interrupt,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolRunning,
    TurnFold,
    TurnId,
    TurnStatus,
    Usage,
)
from bargein_protocol.media_types import attached_bytes
from bargein_protocol.types import MAX_INT

from .heard_position import HeardPosition
from .lifecycle import FLOWS, GUARDED, HELD, STAGES, Effect, Event, Flow, Misuse, Stage
from .text_run import MAX_UNSETTLED
from .tool_ledger import TurnCalls

# Maximum length of a turn's text. It returns in `turn.ended.heard`, whose frame must stay small enough for
# every connection and client.
MAX_TURN_CHARS = 131_072


class Ending(Struct, frozen=True):
    """End of a turn: its status and reason.

    Args:
        retryable: Whether the same input may succeed when it is sent again.
    """

    status: TurnStatus
    reason: str
    retryable: bool = False


COMPLETED = Ending("completed", "completed")
CUT_SHORT = {reason: Ending("completed", reason) for reason in ("length", "content_filter", "refusal")}
"""Endings of a turn that completed although its model ended the answer early, by their reasons."""
INTERRUPTED = Ending("interrupted", "client")
SUPERSEDED = Ending("interrupted", "superseded")
BARGE_IN = Ending("interrupted", "barge_in")
CLIENT_GONE = Ending("interrupted", "client_gone")
SESSION_CLOSED = Ending("interrupted", "session_closed")
REWOUND = Ending("interrupted", "rewound")
NO_OUTPUT = Ending("failed", "no_output", True)
TIMEOUT = Ending("failed", "timeout", True)
OVERLOAD = Ending("failed", "overload", True)
SHUTDOWN = Ending("failed", "shutdown", True)
NODE_LOST = Ending("failed", "node_lost", True)


_EMPTY_OBJECT_BYTES = 64
_ITEM_BYTES = 32


def memory_of(encoded: bytes) -> int:
    """Return the approximate memory of a value by its JSON.

    An empty list takes 56 bytes for its two, a number 24 and a pointer, and a character up to four.
    """
    objects, items = encoded.count(b"[") + encoded.count(b"{"), encoded.count(b",")
    width = 1 if encoded.isascii() else 4
    return width * len(encoded) + _EMPTY_OBJECT_BYTES * objects + _ITEM_BYTES * items


def interrupted_by(event: Interrupt) -> Ending:
    """Return the ending of a turn that a client interrupts."""
    return INTERRUPTED if event.reason is None else Ending("interrupted", event.reason)


# Bytes of the frame around a waiting piece of text.
FRAME_BYTES = 64

# Text deltas that wait for a slow client are joined up to this length, in characters. Longer ones would
# save little more, and an interrupt would cut coarser pieces.
JOINED_TEXT = 1024

_SET_BELOW: Any = None  # __post_init__ sets it


class _Waiting:
    """Waiting output that is an event or is protected by a section."""

    __slots__ = ("output", "protected", "size")

    def __init__(self, output: str | AgentOutput, size: int, protected: bool) -> None:
        self.output = output
        self.size = size
        self.protected = protected


# gc=False: no cycle can contain it. A server keeps one for each remembered turn, and the garbage collector
# need not traverse them.
class TurnRecord(Struct, gc=False, eq=False):
    """Record of one turn.

    Attributes:
        input: The input that it answers.
        choked: Whether the client is slow and output waits; then text is joined.
        barges_in: Whether its input interrupts; then a later such input replaces it.
        stage: Progress of its agent.
        flow: State of its output.
        fold: All of its numbered events.
        heard_position: The part of it that was heard.
        ending: Its ending once its output is written; None while the agent runs.
        deferred: Its ending once its section is over; None when no interrupt waits.
        held_until: Time at which a hold ends automatically; None when it is not held.
        sections: Number of open protected sections.
        paused_since: Time since which its client has kept its agent from being pulled; None while it is.
        progress_at: Time of its last output, or of the last pull after a pause.
        model_until: Time until which its model counts as at work, so that no output is due; see
            `Session.model_works`.
        due_at: Time at which its whole time is over; infinite without a limit.
        usage: Tokens that its model calls used.
        queued_bytes: Approximate size of the waiting output.
        kept_bytes: Approximate size of the record, once the turn has ended.
        calls: Its tool calls; None before the first.
    """

    id: TurnId
    input: InputText
    barges_in: bool
    stage: Stage = Stage.QUEUED
    flow: Flow = Flow.OPEN
    fold: TurnFold = _SET_BELOW
    heard_position: HeardPosition = field(default_factory=HeardPosition)
    ending: Ending | None = None
    deferred: Ending | None = None
    held_until: float | None = None
    sections: int = 0
    progress_at: float = 0.0
    paused_since: float | None = None
    model_until: float = 0.0
    due_at: float = inf
    usage: Usage | None = None
    queued_bytes: int = 0
    choked: bool = False
    kept_bytes: int = 0
    calls: TurnCalls | None = None
    _metadata: bytes = b""  # of an input that waits, encoded
    _waiting: list[str | _Waiting] | tuple[()] = ()  # an ended turn keeps no empty list
    _protected: int = 0

    def __post_init__(self) -> None:
        """Create the fold."""
        self.fold = TurnFold(self.id, self.input.id, MAX_TURN_CHARS)

    def put_aside(self) -> None:
        """Encode the input's metadata: objects take twenty times the memory."""
        if self.input.metadata is not None:
            self._metadata = marshal.dumps(self.input.metadata)
            self.input = replace(self.input, metadata=None)

    @property
    def put_aside_metadata(self) -> bytes:
        """The encoded metadata of an input that waits; empty when `input` has it."""
        return self._metadata

    def take_up(self) -> None:
        """Decode the input's metadata for the agent."""
        if self._metadata:
            self.input = replace(self.input, metadata=marshal.loads(self._metadata))
            self._metadata = b""

    def add_usage(self, usage: Usage) -> None:
        """Add the tokens of a model call.

        The sum stays within what a frame can hold: without its `turn.ended`, a turn would never end.
        """
        before = self.usage or Usage()
        self.usage = Usage(
            input_tokens=min(max(0, before.input_tokens + usage.input_tokens), MAX_INT),
            output_tokens=min(max(0, before.output_tokens + usage.output_tokens), MAX_INT),
        )

    @property
    def input_bytes(self) -> int:
        """Memory of the waiting input: text, encoded metadata and files."""
        size = sys.getsizeof(self.input.text) + len(self._metadata)
        return size + attached_bytes(self.input) if self.input.attachments else size

    def forget_files(self) -> bool:
        """Drop the content of an ended turn's files; names and types stay."""
        if not attached_bytes(self.input):
            return False
        files = [replace(one, data=b"") for one in self.input.attachments or ()]
        self.input = replace(self.input, attachments=files)
        self.kept_bytes = record_size(self)
        return True

    def drop_metadata(self) -> None:
        """Forget the input's metadata, because no agent reads it any more."""
        self._metadata = b""
        if self.input.metadata is not None:
            self.input = replace(self.input, metadata=None)

    def advance(self, event: Event) -> tuple[Effect, ...]:
        """Move stage and flow by the table; return the effects to carry out.

        Raises:
            Misuse: The table has no row for the event; nothing has changed.
        """
        stage_row = STAGES.get((self.stage, event))
        flow_row = FLOWS.get((self.flow, event))
        if flow_row is None:
            if stage_row is None:
                raise Misuse(
                    f"can't {event.value} turn {self.id} when it is {self.stage.value}, {self.flow.value}"
                )
            self.stage, effects = stage_row
            return effects
        self.flow, effects = flow_row
        if stage_row is not None:
            self.stage, more = stage_row
            return effects + more
        return effects

    @property
    def guarded(self) -> bool:
        """Whether a section is open or its output still waits."""
        return self.flow in GUARDED

    @property
    def held(self) -> bool:
        """Whether a hold stops its output."""
        return self.flow in HELD

    @property
    def running(self) -> bool:
        """Whether the agent runs and the fence is open."""
        return self.stage is Stage.RUNNING

    @property
    def ended(self) -> bool:
        """Whether the fence is closed."""
        return self.stage is Stage.ENDED

    @property
    def may_begin_tools(self) -> bool:
        """Whether a tool may begin.

        It may not when the fence closes as soon as a section's output is written.
        """
        return self.running and (self.flow is not Flow.CUT_PENDING or self.sections > 0)

    @property
    def section_over(self) -> bool:
        """Whether all sections are over and the turn only has to be released."""
        return self.flow in GUARDED and not self.sections and not self._protected

    @property
    def runs_tool(self) -> bool:
        """Whether a tool runs or waits for a decision, so no output is due."""
        if self.calls is not None and self.calls.busy:
            return True
        return any(
            tool.state in ("running", "confirming")
            for lane in self.fold.lanes.values()
            for tool in lane.tools.values()
        )

    def put_text(self, text: str) -> None:
        """Queue text for writing."""
        if self.sections:
            self.put(text, len(text) + FRAME_BYTES)
        elif self.flow is not Flow.CUT_PENDING:
            waiting = self._waiting or self._begin_waiting()
            if self.choked and waiting and isinstance(last := waiting[-1], str) and _fits(last, text):
                waiting[-1] = last + text
                self.queued_bytes += len(text)
            else:
                waiting.append(text)
                self.queued_bytes += len(text) + FRAME_BYTES

    def put(self, output: str | AgentOutput, size: int) -> None:
        """Queue output of about `size` bytes for writing.

        Output that follows a section is dropped when an interrupt is deferred. What it reports of a
        tool is recorded in any case.
        """
        if isinstance(output, (ToolCall, ToolRunning, ToolResult)):
            self.calls = self.calls or TurnCalls()
            self.calls.report(output)
        protected = self.sections > 0
        if protected or self.flow is not Flow.CUT_PENDING:
            self.queued_bytes += size
            if self.choked and self._join(output, size, protected):
                return
            (self._waiting or self._begin_waiting()).append(_Waiting(output, size, protected))
            self._protected += protected

    def _begin_waiting(self) -> list[str | _Waiting]:
        waiting: list[str | _Waiting] = []
        self._waiting = waiting
        return waiting

    def _join(self, output: str | AgentOutput, size: int, protected: bool) -> bool:
        """Join text to the last waiting text of the same source, if possible."""
        last = self._waiting[-1] if self._waiting else None
        if last is None or isinstance(last, str) or last.protected is not protected:
            return False
        before = last.output
        if isinstance(before, str) and isinstance(output, str) and _fits(before, output):
            last.output = before + output
        elif (
            isinstance(before, TextDelta)
            and isinstance(output, TextDelta)
            and before.source == output.source
            and _fits(before.text, output.text)
        ):
            last.output = replace(before, text=before.text + output.text)
        else:
            return False
        last.size += size
        return True

    def take(self) -> str | AgentOutput | None:
        """Remove and return the next waiting output, None when none waits."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        self._drop_first(1)
        if isinstance(first, str):
            self.queued_bytes -= len(first) + FRAME_BYTES
            return first
        self.queued_bytes -= first.size
        self._protected -= first.protected
        return first.output

    def next_texts(self) -> Sequence[str]:
        """Return the plain text at the head of the queue, for one run."""
        texts: list[str] = []
        for output in islice(self._waiting, MAX_UNSETTLED):
            if not isinstance(output, str):
                break
            texts.append(output)
        return texts

    def drop_texts(self, texts: Sequence[str]) -> None:
        """Remove the first texts of the queue, which were written."""
        self._drop_first(len(texts))
        self.queued_bytes -= sum(map(len, texts)) + len(texts) * FRAME_BYTES

    def _drop_first(self, count: int) -> None:
        # In place: a copy for each write would make the time of a long queue quadratic.
        if isinstance(self._waiting, list):
            del self._waiting[:count]
        self._waiting = self._waiting or ()

    def purge(self, spare_sections: bool) -> None:
        """Drop waiting output, except that of sections if asked (contracts 2, 9)."""
        spared: list[_Waiting] = []
        if spare_sections:
            spared = [item for item in self._waiting if not isinstance(item, str) and item.protected]
        self._waiting = [*spared] if spared else ()
        self._protected = len(spared)
        self.queued_bytes = sum(item.size for item in spared)


def _fits(before: str, after: str) -> bool:
    return len(before) + len(after) <= JOINED_TEXT


def first_to_shrink(turns: Sequence[TurnRecord]) -> TurnRecord | None:
    """Return the turn that gives way in a full history: files first."""
    return next((turn for turn in turns if attached_bytes(turn.input)), turns[0] if turns else None)


def record_size(turn: TurnRecord) -> int:
    """Return the approximate size of a turn's record in memory, in bytes."""
    size = turn.input_bytes
    for lane in turn.fold.lanes.values():
        size += lane.text.length + lane.thoughts.length + _memory(lane.data)
        for tool in lane.tools.values():
            size += len(tool.arguments) + _memory(tool.output)
    return size


def _memory(value: object) -> int:
    return memory_of(json.encode(value)) if value else 0
