"""What must hold at every moment of a run: the contract, as seen from the server's side.

`Truth` is a replay log that forgets nothing. It is held against the contract with each frame that is
numbered, and everything that a client is given is held against it (see `witness`).
"""

from __future__ import annotations

from collections.abc import Callable

import bargein_protocol as bp
from bargein_server.core.lifecycle import Stage
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.text_run import MAX_UNSETTLED, TextRun
from bargein_server.core.turn_record import MAX_TURN_CHARS
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.settings import Settings

from .trace import Trace

STALE = "stale"
"""What agents say when they know that their turn is over; it must reach nobody."""

SECTION_BEGINS, SECTION_ENDS = "terms ", "and conditions "
"""What agents say first and last in an uninterruptible section."""

BY_FORCE = " by force"
"""Ends the reason of an interrupt that no section stops."""

SILENT = ("hangs", "cleans_slowly", "cannot_be_stopped")
"""Kinds of agents that may say nothing for too long."""

MOST_OUTPUT = 70_000
"""More than the largest output that an agent of the simulation yields, in bytes."""


class Oracle:
    """What is known of a run, and what is wrong with it.

    Args:
        trace: Where faults are noted.
        now: The virtual time in seconds.
        stop: Ends the run.

    Attributes:
        faults: What was found; the run stops at the first.
        truths: The numbered events of every session that there ever was, by its id.
        kinds: What each turn's agent was asked to do.
        said: The text that it yielded, where that is all that is said in the turn.
        numbered: How many events were numbered.
        answered: How many frames were given to clients.
        over: The run is over, and what still happens does not count.
    """

    def __init__(self, trace: Trace, now: Callable[[], float], stop: Callable[[], None]) -> None:
        self.trace = trace
        self.now = now
        self.faults: list[str] = []
        self.truths: dict[bp.SessionId, Truth] = {}
        self.kinds: dict[bp.TurnId, str] = {}
        self.said: dict[bp.TurnId, str] = {}
        self.numbered = 0
        self.answered = 0
        self.over = False
        self._stop = stop

    def expect(self, condition: object, rule: str) -> None:
        """Note a fault unless the condition is true. It never raises: servers survive exceptions."""
        if not condition and not self.over:
            self.trace.note("oracle", "FAULT", rule.encode())
            self.faults.append(rule)
            self._stop()

    # --- sessions --------------------------------------------------------------------------------

    def opened(self, live: SessionHost, event: bp.SessionOpen) -> None:
        """A connection was attached to a session."""
        session_id = live.core.identity.session_id
        truth = self.truths.get(session_id)
        if truth is None:
            log = live.core._sequencer._log
            assert isinstance(log, Truth)
            truth = self.truths[session_id] = log
            truth.epoch = live.core._sequencer.epoch
        resumed = event.resume is not None and event.resume.session_id == session_id
        if resumed:
            assert event.resume is not None
            token, until = event.resume.token, truth.good.get(event.resume.token)
            self.expect(until is not None, f"{session_id} was resumed with a token that is not good")
            self.expect(until is None or self.now() <= until, f"{session_id}: a token was good for too long")
            truth.good = {token: self.now() + 60.0}
        else:
            self.expect(truth.top == 0 or truth.fresh, f"{session_id} was entered without a token")
            truth.good = {}
        truth.fresh = False

    def told_token(self, session_id: bp.SessionId, token: bp.Token) -> None:
        """A client is being told a new token."""
        self.truths[session_id].good[token] = float("inf")
        self.truths[session_id].newest = token
        self.truths[session_id].tokens.append(token)

    def confirmed(self, session_id: bp.SessionId) -> None:
        """A frame came on the newest connection: only the newest token is good."""
        truth = self.truths[session_id]
        truth.good = {truth.newest: float("inf")}

    # --- looked at now and then ------------------------------------------------------------------

    def check(self, sessions: SessionRegistry, bound_s: float) -> None:
        """Hold every session against its bounds."""
        for live in sessions:
            self._check_memory(live, sessions.settings)
            for turn in live.core._turns.turns.values():
                age = self.now() - self.truths[live.core.identity.session_id].started.get(turn.id, self.now())
                self.expect(turn.stage is Stage.ENDED or age < bound_s, f"{turn.id} runs for {age:.0f} s")
        self.expect(len(sessions) <= sessions.settings.max_sessions, "too many sessions")

    def _check_memory(self, live: SessionHost, limits: Settings) -> None:
        core, table = live.core, live.core._turns
        log = core._sequencer._log
        assert isinstance(log, Truth)
        self.expect(log.top - log.first < limits.max_log_events, "the log holds too many events")
        # Within a turn the log knows the sizes of what was spoken by their mean only.
        size = sum(map(len, log.frames[log.first - 1 :]))
        self.expect(size <= 2 * limits.max_log_bytes + MOST_OUTPUT, "the log holds too many bytes")
        self.expect(len(table._waiting) <= limits.max_queued_inputs + 1, "too many inputs wait")
        cleanups = limits.max_overlapping_cleanups + 1
        self.expect(len(table._cleaning) <= cleanups, "too many cleanups at a time")
        # Old ones are forgotten when one ends, but for those that clean up then.
        needed = limits.max_queued_inputs + 2 + cleanups
        self.expect(len(table.turns) <= limits.max_history_turns + needed, "too many turns are remembered")
        self.expect(len(core._requests._early) <= bp.MAX_PENDING, "too many early interrupts")
        self.expect(len(core._requests.replies._by_id) <= 1024, "too many answers are remembered")
        for turn in table.turns.values():
            queued = turn.queued_bytes
            self.expect(
                0 <= queued < limits.max_queued_output_bytes + MOST_OUTPUT,
                f"{turn.id}: too much output waits",
            )
            self.expect(queued == 0 or turn.stage in (Stage.RUNNING, Stage.FINISHING), "an end left output")


class Truth(MemoryLog):
    """A replay log that also keeps what was trimmed.

    Attributes:
        frames: Every frame, as it was numbered.
        events: The same, decoded.
        dropped: The turns that a rewind dropped.
        by_input: The turn of each input that was taken.
        started: When each turn began, in virtual seconds.
        ends: The end of each turn that has ended.
        ended_at: When it did, in virtual seconds.
        tokens: Every secret that was told, the newest last.
        epoch: The name of the numbering.
        good: The tokens that open the session now, and until when.
        fresh: Whether nobody was attached yet.
        owed: Frames that a client was given and that are not logged yet, by their number: unsettled text.
        speaking: Whether the user's speech has started and not stopped.
        spoken_ms: Its last start or stop.
        transcribed: Inputs that speech has become.
    """

    def __init__(self, max_events: int, max_bytes: int, oracle: Oracle) -> None:
        super().__init__(max_events, max_bytes)
        self.frames: list[bytes] = []
        self.events: list[bp.Numbered] = []
        self.dropped: set[bp.TurnId] = set()
        self.by_input: dict[bp.InputId, bp.TurnId] = {}
        self.started: dict[bp.TurnId, float] = {}
        self.ends: dict[bp.TurnId, bp.TurnEnded] = {}
        self.ended_at: dict[bp.TurnId, float] = {}
        self.good: dict[bp.Token, float] = {}
        self.newest = bp.Token("")
        self.tokens: list[bp.Token] = []
        self.epoch = bp.Epoch("")
        self.fresh = True
        self.owed: dict[int, bytes] = {}
        self.speaking = False
        self.spoken_ms = 0
        self.transcribed: set[bp.InputId] = set()
        self._sounded: dict[bp.TurnId, int] = {}
        self._texts: dict[bp.TurnId, list[str]] = {}
        self._reasons: dict[bp.TurnId, str] = {}
        self._held: set[bp.TurnId] = set()
        self._protected: set[bp.TurnId] = set()
        self._oracle = oracle

    def append(
        self, frame: bytes, codec: bp.Codec, turn_id: bp.TurnId, end: bp.TurnEnded | None = None
    ) -> None:
        """Hold a frame against the contract and store it."""
        self._check(frame, codec, turn_id)
        super().append(frame, codec, turn_id, end)

    def append_text(self, run: TextRun, added: tuple[int, int]) -> None:
        """Do the same for text."""
        first, (count, size) = self.top + 1, added
        for seq in range(first, first + count):
            self._check(run.frame(bp.Seq(seq), run.codec), run.codec, run.turn_id)
        written = sum(map(len, self.frames[-count:]))
        self._oracle.expect(size == written, f"{written} bytes of {run.turn_id} count as {size} in the log")
        super().append_text(run, added)

    def was_given(self, seq: int, frame: bytes) -> bool:
        """Whether a client may have been given a frame: it is logged, or will be before anything else."""
        if seq <= len(self.frames):
            return self.frames[seq - 1] == frame
        return seq - len(self.frames) <= MAX_UNSETTLED and self.owed.setdefault(seq, frame) == frame

    def _check(self, frame: bytes, codec: bp.Codec, turn_id: bp.TurnId) -> None:
        oracle = self._oracle
        oracle.numbered += 1
        oracle.trace.note("log", turn_id, frame)
        event = codec.decode_server(frame)
        assert isinstance(event, bp.Numbered)
        turn = getattr(event, "turn_id", bp.NO_TURN)
        self.frames.append(frame)
        self.events.append(event)
        oracle.expect(event.seq == len(self.frames), f"{event.seq} was numbered after {len(self.frames) - 1}")
        oracle.expect(turn not in self.ends, f"{turn} went on after its end")
        if isinstance(event, bp.SessionRewound):
            oracle.expect(
                all(one in self.ends for one in event.turns), f"{event} dropped a turn that goes on"
            )
            oracle.expect(not self.dropped & set(event.turns), f"{event} dropped a turn twice")
            self.dropped.update(event.turns)
        elif isinstance(event, (bp.SpeechStarted, bp.SpeechStopped)):
            starts = isinstance(event, bp.SpeechStarted)
            oracle.expect(starts is not self.speaking, f"{event} does not follow from the one before")
            oracle.expect(event.at_ms >= self.spoken_ms, f"{event} is before {self.spoken_ms} ms")
            self.speaking, self.spoken_ms = starts, event.at_ms
        elif isinstance(event, bp.TranscriptDone):
            if event.input_id is not None:
                oracle.expect(event.input_id not in self.transcribed, f"{event} was transcribed twice")
                self.transcribed.add(event.input_id)
        elif isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            oracle.expect(event.input_id not in self.by_input, f"{event.input_id} got two turns")
            oracle.expect(turn not in self._reasons, f"{turn} was given to two inputs")
            self.by_input[event.input_id] = turn
            self._reasons[turn] = f"for {event.input_id}"
        elif isinstance(event, bp.TurnEnded):
            self.ends[turn] = event
            self.ended_at[turn] = oracle.now()
            self._check_end(turn, event)
        elif isinstance(event, bp.TurnStarted):
            running = [other for other in self.started if other not in self.ends]
            oracle.expect(not running, f"{turn} and {running} have the floor")
            self.started[turn] = oracle.now()
        elif isinstance(event, bp.TurnEvent):
            oracle.expect(turn in self.started, f"{turn} spoke before it was started")
            self._check_output(turn, event)
        given = self.owed.pop(event.seq, frame)
        oracle.expect(given == frame, f"{event.seq} was given to a client, and something else was logged")

    def _check_end(self, turn: bp.TurnId, end: bp.TurnEnded) -> None:
        ours = end.reason.removesuffix(BY_FORCE)
        other = ours.startswith("for ") and ours != self._reasons[turn]
        self._oracle.expect(not other, f"an interrupt {end.reason} ended {turn}")
        text, said = "".join(self._texts.pop(turn, ())), self._oracle.said.get(turn, "")
        if turn in self._oracle.said:
            whole = text == said if end.status == "completed" else said.startswith(text)
            self._oracle.expect(whole, f"{turn} is told otherwise than its agent said it")
        # A section is spared by everything that can wait (contract 9).
        waits = end.reason in ("superseded", "barge_in", self._reasons[turn])
        self._oracle.expect(not (waits and turn in self._protected), f"{turn} was cut in a section")

        sent_ms = self._sounded.pop(turn, 0)
        self._oracle.expect(end.heard.audio_ms <= sent_ms, f"{turn} was heard beyond its {sent_ms} ms")
        silent = end.reason != "no_output" or self._oracle.kinds.get(turn, SILENT[0]) in SILENT
        self._oracle.expect(silent, f"{turn} failed for its silence, and it was not silent")

    def _check_output(self, turn: bp.TurnId, event: bp.TurnEvent) -> None:
        if isinstance(event, bp.TurnHeld):
            self._held.add(turn)
        elif isinstance(event, bp.TurnResumed):
            self._held.discard(turn)
        else:
            self._oracle.expect(turn not in self._held, f"{turn} spoke while it was held")
        if isinstance(event, bp.AudioDelta):
            begins_ms = self._sounded.get(turn, 0)
            self._oracle.expect(event.start_ms == begins_ms, f"{turn} lost the sound from {begins_ms} ms")
            self._sounded[turn] = event.start_ms + event.duration_ms
        if isinstance(event, bp.TextDelta):
            self._texts.setdefault(turn, []).append(event.text)
            self._oracle.expect(STALE not in event.text, f"{turn} said something stale")
            begins, ends = event.text.rfind(SECTION_BEGINS), event.text.rfind(SECTION_ENDS)
            if begins > ends:
                self._protected.add(turn)
            elif begins < ends:
                self._protected.discard(turn)

    def fold(self, turn_id: bp.TurnId, upto: int) -> bp.TurnFold:
        """Return a turn as it stood at a number."""
        fold = bp.TurnFold(turn_id, max_chars=MAX_TURN_CHARS)
        for event in self.events[:upto]:
            if isinstance(event, bp.SessionRewound) and turn_id in event.turns:
                fold.drop(event.seq)
            elif isinstance(event, bp.TurnEvent) and event.turn_id == turn_id:
                fold.apply(event)
        return fold
