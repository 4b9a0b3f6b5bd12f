"""Fold the events of a turn into its state.

Clients, snapshots and the server's history use this one fold, so the view of the user and the input of
the model can differ only by events that were not sent. Folding is idempotent: an event whose number is
not above the last one is ignored, so a replay does no harm.

A fold is bounded like the events that it consists of, so its state can always be sent: text, calls, spans
of audio, names of data and lanes beyond their bounds are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from msgspec import Struct, field

from . import server_events as ev
from .event import Output, TurnEvent
from .indexed_text import IndexedText
from .turn_state import AudioSpan, LaneState, ProgressState, ToolPhase, ToolState, TurnState
from .types import (
    MAX_KEYS,
    MAX_LANES,
    MAX_SPANS,
    MAX_TEXT_CHARS,
    MAX_TOOLS,
    NO_SEQ,
    CallId,
    Heard,
    InputId,
    Seq,
    TurnId,
)

_NO_TEXT = IndexedText(max_chars=0)
_SET_BELOW: Any = None  # in __post_init__


# gc=False: a fold is in no reference cycle. Servers keep one for each turn in memory, and the garbage
# collector then does not traverse them.
class LaneFold(Struct, gc=False, eq=False):
    """Fold of one lane of a turn; `LaneState` describes the fields.

    Args:
        max_chars: Maximum length of each text.
    """

    max_chars: int = MAX_TEXT_CHARS
    text: IndexedText = _SET_BELOW
    thoughts: IndexedText = _SET_BELOW
    status: str | None = None
    tools: dict[CallId, ToolState] = field(default_factory=dict)
    audio: Sequence[AudioSpan] = ()
    audio_seqs: Sequence[int] = ()
    progress: ProgressState | None = None
    steps: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    _called_in: dict[CallId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the texts."""
        self.text = IndexedText(self.max_chars)
        self.thoughts = _NO_TEXT  # shared: most lanes have no thoughts, and every turn has a lane

    def tool(self, call_id: CallId) -> ToolState:
        """Return the state of a call, a new one when it was not announced."""
        tool = self.tools.get(call_id)
        if tool is None:
            tool = ToolState(call_id=call_id, text_at=self.text.length)
            if len(self.tools) < MAX_TOOLS:
                self.tools[call_id] = tool
                self._called_in[call_id] = self.steps
        return tool

    def same_step(self, one: ToolState, other: ToolState) -> bool:
        """Return whether two calls belong to the same step.

        A snapshot does not hold the steps of calls; all of its calls count as one step.
        """
        return self._called_in.get(one.call_id) == self._called_in.get(other.call_id)

    def steps_of_calls(self) -> dict[CallId, int]:
        """Return the step of each call, which `folded` does not hold."""
        return dict(self._called_in)

    def restore_steps(self, called_in: dict[CallId, int]) -> None:
        """Set the answer of `steps_of_calls`."""
        self._called_in = dict(called_in)

    def folded(self) -> LaneState:
        """Return the state as plain data; later events do not change it."""
        return LaneState(
            text=str(self.text),
            thoughts=str(self.thoughts),
            status=self.status,
            tools=[copy(tool) for tool in self.tools.values()],
            audio=list(self.audio),
            progress=self.progress,
            steps=self.steps,
            data=dict(self.data),
        )

    @classmethod
    def unfold(cls, state: LaneState, seq: Seq) -> LaneFold:
        """Return a lane that continues a snapshot as of event `seq`."""
        lane = cls()
        lane.text, lane.thoughts = IndexedText.of(state.text, seq), IndexedText.of(state.thoughts, seq)
        lane.status, lane.progress, lane.steps = state.status, state.progress, state.steps
        lane.tools = {tool.call_id: copy(tool) for tool in state.tools}
        if state.audio:
            lane.audio, lane.audio_seqs = list(state.audio), [seq] * len(state.audio)
        lane.data = dict(state.data)
        return lane


def _status(lane: LaneFold, event: ev.Status) -> None:
    lane.status = event.message


def _thought(lane: LaneFold, event: ev.Thought) -> None:
    if lane.thoughts is _NO_TEXT:
        lane.thoughts = IndexedText(max_chars=lane.max_chars)
    lane.thoughts.append(event.text, event.seq)


def _text(lane: LaneFold, event: ev.TextDelta) -> None:
    lane.text.append(event.text, event.seq)


def _audio(lane: LaneFold, event: ev.AudioDelta) -> None:
    if len(lane.audio) >= MAX_SPANS:
        return
    span = AudioSpan(start_ms=event.start_ms, duration_ms=event.duration_ms, text=event.text)
    if not isinstance(lane.audio, list) or not isinstance(lane.audio_seqs, list):
        lane.audio, lane.audio_seqs = [], []
    lane.audio.append(span)
    lane.audio_seqs.append(event.seq)


def _tool_call(lane: LaneFold, event: ev.ToolCall) -> None:
    lane.tool(event.call_id).name = event.name


def _tool_call_delta(lane: LaneFold, event: ev.ToolCallDelta) -> None:
    tool = lane.tool(event.call_id)
    tool.arguments += event.arguments[: MAX_TEXT_CHARS - len(tool.arguments)]


def _tool_confirm(lane: LaneFold, event: ev.ToolConfirm) -> None:
    tool = lane.tool(event.call_id)
    tool.state, tool.given = "confirming", event.arguments


def _tool_running(lane: LaneFold, event: ev.ToolRunning) -> None:
    tool = lane.tool(event.call_id)
    tool.state, tool.given = "running", event.arguments


def _tool_result(lane: LaneFold, event: ev.ToolResult) -> None:
    tool = lane.tool(event.call_id)
    # A tool that goes on after an interrupt has a result in the history already.
    state: ToolPhase = "background" if event.status == "running" else event.status
    tool.state, tool.output, tool.error, tool.duration_ms = (
        state,
        event.output,
        event.error,
        event.duration_ms,
    )


def _step(lane: LaneFold, event: ev.StepEnded) -> None:
    lane.steps += 1


def _progress(lane: LaneFold, event: ev.Progress) -> None:
    lane.progress = ProgressState(value=event.value, total=event.total, unit=event.unit, label=event.label)


def _data(lane: LaneFold, event: ev.Data) -> None:
    if event.name in lane.data or len(lane.data) < MAX_KEYS:
        lane.data[event.name] = event.value


_FOLDS: dict[type[Output], Callable[[LaneFold, Any], None]] = {
    ev.Status: _status,
    ev.Thought: _thought,
    ev.TextDelta: _text,
    ev.AudioDelta: _audio,
    ev.ToolCall: _tool_call,
    ev.ToolCallDelta: _tool_call_delta,
    ev.ToolConfirm: _tool_confirm,
    ev.ToolRunning: _tool_running,
    ev.ToolResult: _tool_result,
    ev.StepEnded: _step,
    ev.Progress: _progress,
    ev.Data: _data,
}


class TurnFold(Struct, gc=False, eq=False):
    """Fold of the events of one turn.

    Args:
        turn_id: The turn.
        input_id: The input that requested it, None while unknown.
        max_chars: Maximum length of each text.

    Attributes:
        main_lane: The lane of the empty source.
        lanes: All lanes by source.
        last_seq: The last number in the fold.
        last_output_seq: The last number before the `turn.ended`.
        ended: The `turn.ended`; None before the end.
        dropped: Whether a rewind dropped the turn.
    """

    turn_id: TurnId
    input_id: InputId | None = None
    max_chars: int = MAX_TEXT_CHARS
    started: bool = False
    held: bool = False
    last_seq: Seq = NO_SEQ
    last_output_seq: Seq = NO_SEQ
    ended: ev.TurnEnded | None = None
    dropped: bool = False
    main_lane: LaneFold = _SET_BELOW
    lanes: dict[str, LaneFold] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the main lane."""
        self.main_lane = self.lanes[""] = LaneFold(self.max_chars)

    def apply(self, event: TurnEvent | ev.UnknownEvent) -> bool:
        """Add an event; return False when it was added before.

        Raises:
            ValueError: The event belongs to another turn.
        """
        if event.turn_id != self.turn_id:
            raise ValueError(f"expected an event of turn {self.turn_id}, got one of {event.turn_id}")
        if event.seq <= self.last_seq:
            return False
        self.last_seq = event.seq
        if isinstance(event, ev.TurnEnded):
            self.ended, self.held = event, False
            return True
        self.last_output_seq = event.seq
        if isinstance(event, Output):
            _FOLDS[type(event)](self.lane(event.source), event)
        elif isinstance(event, ev.TurnStarted):
            self.started, self.input_id = True, event.input_id
        elif isinstance(event, (ev.TurnHeld, ev.TurnResumed)):
            self.held = isinstance(event, ev.TurnHeld)
        elif isinstance(event, (ev.InputAccepted, ev.InputQueued)):
            self.input_id = event.input_id
        return True

    def drop(self, seq: Seq) -> None:
        """Empty the turn, which the `session.rewound` of this number dropped."""
        self.dropped = True
        self.last_seq = max(self.last_seq, seq)
        self.lanes = {}
        self.main_lane = self.lanes[""] = LaneFold(self.max_chars)

    def lane(self, source: str) -> LaneFold:
        """Return the lane of a source, a new one at its first event."""
        lane = self.lanes.get(source)
        if lane is None:
            lane = LaneFold(self.max_chars)
            if len(self.lanes) < MAX_LANES:
                self.lanes[source] = lane
        return lane

    def pack(self) -> None:
        """Reduce the memory of a turn that has ended."""
        for lane in self.lanes.values():
            lane.text.pack()
            lane.thoughts.pack()

    def folded(self) -> TurnState:
        """Return the state as plain data; later events do not change it."""
        return TurnState(
            turn_id=self.turn_id,
            input_id=self.input_id,
            started=self.started,
            held=self.held,
            status=self.ended.status if self.ended else None,
            reason=self.ended.reason if self.ended else None,
            retryable=self.ended.retryable if self.ended else False,
            last_seq=self.last_seq,
            last_output_seq=self.last_output_seq,
            heard=self.ended.heard if self.ended else None,
            usage=self.ended.usage if self.ended else None,
            dropped=self.dropped,
            lanes={source: lane.folded() for source, lane in self.lanes.items()},
        )

    @classmethod
    def unfold(cls, state: TurnState) -> TurnFold:
        """Return a fold that continues a snapshot; the snapshot stays unchanged.

        A snapshot does not hold the numbers of its characters, so all of them count as part of the
        last event before its `turn.ended`.
        """
        fold = cls(state.turn_id, state.input_id)
        fold.started, fold.held, fold.dropped = state.started, state.held, state.dropped
        fold.last_seq, fold.last_output_seq = state.last_seq, state.last_output_seq
        for source, folded in state.lanes.items():
            fold.lanes[source] = LaneFold.unfold(folded, state.last_output_seq)
        fold.main_lane = fold.lanes.setdefault("", fold.main_lane)
        if state.status is not None:
            fold.ended = ev.TurnEnded(
                seq=state.last_seq,
                turn_id=state.turn_id,
                status=state.status,
                reason=state.reason or "",
                last_seq=state.last_output_seq,
                heard=state.heard or Heard(),
                usage=state.usage,
                retryable=state.retryable,
            )
        return fold
