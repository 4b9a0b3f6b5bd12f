"""A session with its host, driven by hand: running agents, their tools, their cleanups."""

from __future__ import annotations

from itertools import count
from typing import Any

import bargein_protocol as bp
from bargein_protocol import JSON
from bargein_server.core import CancelTurn, CloseConnection, StartTurn
from bargein_server.core.history import NO_RESULT
from bargein_server.core.lifecycle import Stage
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.session import Session
from bargein_server.core.text_run import TextRun
from bargein_server.core.tool_ledger import CallRecord
from bargein_server.core.turn_limiter import Permit, TurnLimiter
from bargein_server.core.turn_record import TurnRecord
from bargein_server.settings import Settings
from bargein_server.transport.connection import WRITE_BYTES
from valid_history import check_valid

LIMITS = Settings(max_log_events=32, max_queued_inputs=2, max_queued_output_bytes=1024, max_history_turns=8)
LONGEST_OUTPUT = 300


class TruthfulLog(MemoryLog):
    """A log that also keeps what was trimmed: the truth that both sides are held against."""

    def __init__(self) -> None:
        super().__init__(LIMITS.max_log_events, LIMITS.max_log_bytes)
        self.truth: list[bp.TurnEvent] = []

    def append(
        self, frame: bytes, codec: bp.Codec, turn_id: bp.TurnId, end: bp.TurnEnded | None = None
    ) -> None:
        event = codec.decode_server(frame)
        assert isinstance(event, bp.TurnEvent)
        self.truth.append(event)
        super().append(frame, codec, turn_id, end)

    def append_text(self, run: TextRun, added: tuple[int, int]) -> None:
        first, count = self.top + 1, added[0]
        self.truth += text_deltas(first, count, run)
        super().append_text(run, added)


def text_deltas(first: int, count: int, run: TextRun) -> list[bp.TurnEvent]:
    """Return the text deltas of a run under these numbers."""
    return [
        bp.TextDelta(seq=bp.Seq(seq), turn_id=run.turn_id, text=run.text.piece(seq))
        for seq in range(first, first + count)
    ]


class Served:
    """See the module.

    Attributes:
        running: The agents that run, with the depth of their sections.
        cleaning: The turns whose tasks clean up.
        calls: The tool calls that have begun, by their id, with their turn and what came of them.
        tokens: Every secret that was given out.
        shown: What the client last resumed with, while no frame has come since.
        closed: The session asked for its connection to be closed.
    """

    def __init__(self, number: int, turn_limiter: TurnLimiter, now: float) -> None:
        self.log = TruthfulLog()
        self.running: dict[bp.TurnId, int] = {}
        self.cleaning: dict[bp.TurnId, None] = {}  # in the order of their cancels
        self.calls: dict[bp.CallId, tuple[bp.TurnId, str | None]] = {}
        self.tokens: list[bp.Token] = []
        self.shown: bp.Token | None = None
        self.closed = False
        ids = count(1)
        self._run: TextRun | None = None
        self.core = Session(
            bp.SessionId(f"s{number}"), bp.Epoch(f"e{number}"), self.log, JSON, LIMITS,
            Permit(turn_limiter, self._admitted), lambda: bp.TurnId(f"t{number}_{next(ids)}"), now,
        )  # fmt: skip

    def append_text(self, turn: bp.TurnId, text: str, now: float) -> bytes | None:
        """Append text to the open run, as a host does; None when it must be emitted."""
        run = self._run
        if run is None or not run.open or run.turn_id != turn:
            run = self._run = self.core.output.open_text(turn)
        if run is None or self.core._sequencer.ready:
            return None
        return run.append(text, now)

    def _admitted(self) -> None:
        self.core.admitted(self.core._turns.now)

    def attach(self, token: bp.Token, now: float, *, resume: bp.Resume | None, **how: Any) -> None:
        """Let a client drive the session."""
        self.tokens.append(token)
        self.shown = resume.token if resume is not None else None
        self.core.attach(JSON, token, now, resume=resume, **how)

    def receive(self, event: bp.ClientEvent, now: float) -> None:
        """Read a frame, which shows that the client has the newest token."""
        self.shown = None
        self.core.receive(event, now)

    def drain(self, open_line: bool) -> list[bytes]:
        """Do the work of the host after each call; return the written frames."""
        frames: list[bytes] = []
        while True:
            while more := self.core.output.next_frames(open_line, WRITE_BYTES):
                frames += more
            commands = self.core.commands()
            if not commands:
                return frames
            for command in commands:
                if isinstance(command, StartTurn):
                    self.running[command.turn_id] = 0
                elif isinstance(command, CancelTurn):
                    del self.running[command.turn_id]
                    self.cleaning[command.turn_id] = None
                elif isinstance(command, CloseConnection):
                    self.closed = True

    # --- what tools do ---------------------------------------------------------------------------

    def begin_call(self, turn: bp.TurnId, now: float, background: bool) -> None:
        """Let a tool begin as an agent does: the call is entered before it is sent."""
        call = self.core.tools.claim(turn, "call")
        assert call not in self.calls
        if self.core.tools.begin(turn, CallRecord(call, "tool", {"n": 1}, background=background)):
            self.calls[call] = (turn, None)
            self.core.emit(turn, bp.ToolCall(call_id=call, name="tool"), now)
            self.core.emit(turn, bp.ToolRunning(call_id=call, arguments={"n": 1}), now)
        else:
            assert turn not in self.running or self.core.turn(turn).deferred is not None

    def settle_calls(self, now: float) -> None:
        """Let every tool return, also those whose turn has ended; what is taken must never be lost."""
        for call, (turn, before) in list(self.calls.items()):
            result = bp.ToolResult(call_id=call, output=f"did {call}", status="completed")
            if self.core.tools.settle(turn, result):
                assert before is None, "no call has two results"
                self.calls[call] = (turn, f"did {call}")
                self.core.emit(turn, result, now)

    # --- what must hold --------------------------------------------------------------------------

    def check_ends(self) -> None:
        """Numbers without gaps, one end a turn, nothing after it, one turn an input."""
        ended: set[str] = set()
        inputs: set[str] = set()
        reasons: dict[str, str] = {}
        for number, event in enumerate(self.log.truth, 1):
            assert event.seq == number
            assert event.turn_id not in ended
            if isinstance(event, (bp.InputAccepted, bp.InputQueued)):
                assert event.input_id not in inputs
                inputs.add(event.input_id)
                reasons[event.turn_id] = f"for {event.input_id}"
            elif isinstance(event, bp.TurnEnded):
                ended.add(event.turn_id)
                if event.reason.startswith("for "):
                    assert event.reason == reasons[event.turn_id], "an interrupt ended another turn"

    def check_bounds(self) -> None:
        """Memory is bounded whatever happens."""
        core, table = self.core, self.core._turns
        assert self.log.top - self.log.first < LIMITS.max_log_events
        assert len(table._waiting) <= LIMITS.max_queued_inputs + 1
        assert len(table._cleaning) <= LIMITS.max_overlapping_cleanups + 1
        # Old turns are forgotten when one ends, and none that the host still needs.
        needed = LIMITS.max_queued_inputs + 2 + len(table._cleaning)
        assert len(table.turns) <= LIMITS.max_history_turns + needed
        assert set(table.by_input.values()) <= set(table.turns.values())
        assert len(core._requests._early) <= bp.MAX_PENDING
        for turn in table.turns.values():
            assert 0 <= turn.queued_bytes < LIMITS.max_queued_output_bytes + 3 * LONGEST_OUTPUT
            assert turn.queued_bytes == 0 or turn.stage in (Stage.RUNNING, Stage.FINISHING)

    def check_history(self) -> None:
        """The history of each agent is valid, and holds every call that began, with its result."""
        for turn in (*self.running, *self.cleaning):
            own = self.core.turn(turn)
            results = check_valid(self.core.history(turn).messages(), own.input.text)
            if turn in self.running:
                self._check_calls(own, results)

    def _check_calls(self, own: TurnRecord, results: dict[str, str]) -> None:
        remembered = {t.id for t in self.core._turns.turns.values() if t is not own}
        for call, (turn, result) in self.calls.items():
            if turn in remembered:
                assert results[call] == result or (
                    result is None and results[call] in ("cancelled", "running", NO_RESULT)
                )

    def check_strangers(self, now: float) -> None:
        """Nobody resumes the session without its token, or from a number that was never given."""
        epoch = self.core._sequencer.epoch
        assert self._refuses(self.tokens[-1], bp.Epoch("other"), 0, now)
        assert self._refuses(self.tokens[-1], epoch, self.core._sequencer.top + 1, now)
        for token in (*self.tokens[:-1], bp.Token("guess"), bp.Token("")):
            assert token == self.shown or self._refuses(token, epoch, 0, now)

    def _refuses(self, token: bp.Token, epoch: bp.Epoch, seq: int, now: float) -> bool:
        cursor = bp.Cursor(epoch=epoch, seq=bp.Seq(seq))
        resume = bp.Resume(session_id=self.core.identity.session_id, token=token, cursor=cursor)
        return self.core.refusal(resume, now) is not None
