"""One turn: its state, its waiting output, and what may happen to it.

A turn is `queued` until the agent may run, `running` while it does, `finishing` when the generator
has returned and output still waits to be written, and `ended` in the step in which its one
`turn.ended` is numbered (contract 1). Every transition is in `TRANSITIONS`; an unlisted one raises
and changes nothing.

Two things lie across the states. A *hold* stops the output of a turn without changing its state
(contract 10). A *section* marks output that an interrupt must spare (contract 9): while one is open,
or while its output still waits, an interrupt and a hold are remembered and take effect afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from bargein_protocol import (
    AgentOutput,
    InputText,
    Interrupt,
    TextDelta,
    TurnFold,
    TurnId,
    TurnStatus,
    Usage,
)

from .heard_position import HeardPosition
from .tool_ledger import TurnCalls

# How much of a turn's text is remembered. It returns in `turn.ended.heard`, which must stay a frame
# that no line and no client chokes on; an answer of this length is a book's chapter.
MAX_TURN_CHARS = 131_072


class State(Enum):
    """Where a turn is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHING = "finishing"
    ENDED = "ended"

    __hash__ = object.__hash__  # that of Enum hashes the name, in Python


class Step(Enum):
    """What moves a turn from one state to the next."""

    START = "start"
    FINISH = "finish"
    END = "end"

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.QUEUED, Step.START): State.RUNNING,
    (State.QUEUED, Step.END): State.ENDED,
    (State.RUNNING, Step.FINISH): State.FINISHING,
    (State.RUNNING, Step.END): State.ENDED,
    (State.FINISHING, Step.END): State.ENDED,
}


class Misuse(Exception):
    """The shell did what the core forbids; nothing has changed."""


class Ending(Struct, frozen=True):
    """How a turn ends.

    Args:
        retryable: Whether the same input may succeed when it is sent again.
    """

    status: TurnStatus
    reason: str
    retryable: bool = False


COMPLETED = Ending("completed", "completed")
INTERRUPTED = Ending("interrupted", "client")
SUPERSEDED = Ending("interrupted", "superseded")
CLIENT_GONE = Ending("interrupted", "client_gone")
SESSION_CLOSED = Ending("interrupted", "session_closed")
NO_OUTPUT = Ending("failed", "no_output", True)
OVERLOAD = Ending("failed", "overload", True)
SHUTDOWN = Ending("failed", "shutdown", True)


def interrupted_by(event: Interrupt) -> Ending:
    """Return how a client's interrupt ends a turn."""
    return INTERRUPTED if event.reason is None else Ending("interrupted", event.reason)


# What a waiting piece of text costs beside its characters: the frame around it.
FRAME_BYTES = 64

# Text deltas that wait for a slow client are joined up to this length, in characters. Longer ones
# would save little more and make an interrupt's seams coarse.
JOINED_TEXT = 1024


_SET_BELOW: Any = None  # by __post_init__


class _Waiting:
    """Output that waits, other than plain text: an event, or anything that a section protects."""

    __slots__ = ("output", "protected", "size")

    def __init__(self, output: str | AgentOutput, size: int, protected: bool) -> None:
        self.output = output
        self.size = size
        self.protected = protected


# gc=False: it leads to nothing that leads back to it. A server keeps one for each turn that it remembers,
# and the garbage collector need not walk through them.
class TurnRecord(Struct, gc=False, eq=False):
    """The record of one turn.

    Attributes:
        input: What asked for it.
        choked: Whether its client took no more and output waits: then text is joined.
        barges_in: Whether its input was to interrupt; then a later such input replaces it.
        fold: All of its numbered events.
        hearing: What was heard of it.
        ending: How it will end once its output is written; None while the agent runs.
        deferred: How it will end once its section is over.
        held_until: When an undecided hold ends by itself; None when it is not held.
        hold_wanted: A hold waits for the end of a section.
        progress_at: When it last produced output, or was last pulled again.
        queued_bytes: About how much output waits.
        kept_chars: About how much its record holds, once it has ended.
        calls: Its tool calls; None before the first.
    """

    id: TurnId
    input: InputText
    barges_in: bool
    state: State = State.QUEUED
    fold: TurnFold = _SET_BELOW
    hearing: HeardPosition = field(default_factory=HeardPosition)
    ending: Ending | None = None
    deferred: Ending | None = None
    held_until: float | None = None
    hold_wanted: bool = False
    sections: int = 0
    progress_at: float = 0.0
    usage: Usage | None = None
    queued_bytes: int = 0
    choked: bool = False
    kept_chars: int = 0
    calls: TurnCalls | None = None
    _waiting: list[str | _Waiting] | tuple[()] = ()  # no list in each of the turns that have ended
    _protected: int = 0

    def __post_init__(self) -> None:
        """Give it a fold."""
        self.fold = TurnFold(self.id, self.input.id, MAX_TURN_CHARS)

    def advance(self, step: Step) -> None:
        """Move to the next state.

        Raises:
            Misuse: The table has no such transition.
        """
        after = TRANSITIONS.get((self.state, step))
        if after is None:
            raise Misuse(f"can't {step.value} turn {self.id} when it is {self.state.value}")
        self.state = after

    @property
    def guarded(self) -> bool:
        """Whether a section is open or its output still waits."""
        return self.sections > 0 or self._protected > 0

    @property
    def running(self) -> bool:
        """Whether the agent runs and the fence is open."""
        return self.state is State.RUNNING

    @property
    def ended(self) -> bool:
        """Whether the fence is closed."""
        return self.state is State.ENDED

    @property
    def may_begin_tools(self) -> bool:
        """Whether a tool may begin: not when the fence closes as soon as a section's output is written."""
        return self.running and (self.deferred is None or self.sections > 0)

    @property
    def runs_tool(self) -> bool:
        """Whether a tool works or waits for a decision, so that silence is no fault."""
        if self.calls is not None and self.calls.busy:
            return True
        return any(
            tool.state in ("running", "confirming")
            for lane in self.fold.lanes.values()
            for tool in lane.tools.values()
        )

    def put_text(self, text: str) -> None:
        """Let text wait to be written."""
        if self.sections:
            self.put(text, len(text) + FRAME_BYTES)
        elif self.deferred is None:
            waiting = self._waiting or self._begin_waiting()
            if self.choked and waiting and isinstance(last := waiting[-1], str) and _fits(last, text):
                waiting[-1] = last + text
                self.queued_bytes += len(text)
            else:
                waiting.append(text)
                self.queued_bytes += len(text) + FRAME_BYTES

    def put(self, output: str | AgentOutput, size: int) -> None:
        """Let output of about `size` bytes wait to be written."""
        protected = self.sections > 0
        if protected or self.deferred is None:  # what follows a section falls to the interrupt that waits
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
        """Join text to that of the same source which waits last; returns whether that was possible."""
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
        """Return the output that is next to be written, None when none waits."""
        if not self._waiting:
            return None
        first = self._waiting.pop(0)
        if isinstance(first, str):
            self.queued_bytes -= len(first) + FRAME_BYTES
            return first
        self.queued_bytes -= first.size
        self._protected -= first.protected
        return first.output

    @property
    def speaks(self) -> bool:
        """Whether plain text is next to be written, and something after it."""
        return len(self._waiting) > 1 and type(self._waiting[0]) is str

    def next_texts(self) -> list[str]:
        """Return the plain text that is next to be written, which goes on to wait."""
        texts: list[str] = []
        for output in self._waiting:
            if not isinstance(output, str):
                break
            texts.append(output)
        return texts

    def drop_texts(self, texts: Sequence[str]) -> None:
        """Forget the first ones of `next_texts`: they were written."""
        self._waiting = [*self._waiting[len(texts) :]]
        self.queued_bytes -= sum(map(len, texts)) + len(texts) * FRAME_BYTES

    def purge(self, spare_sections: bool) -> None:
        """Throw waiting output away: all of it, or all but that of sections (contracts 2 and 9)."""
        if not self._waiting:
            self._waiting = ()  # an ended turn keeps no empty list either
            return
        spared: list[_Waiting] = []
        if spare_sections:
            spared = [one for one in self._waiting if not isinstance(one, str) and one.protected]
        self._waiting = [*spared] if spared else ()
        self._protected = len(spared)
        self.queued_bytes = sum(one.size for one in spared)


def _fits(before: str, after: str) -> bool:
    return len(before) + len(after) <= JOINED_TEXT
