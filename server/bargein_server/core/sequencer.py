"""Sequencer: numbers a session's events for the client that reads them.

An event gets its number, its place in the log and its bytes in one step: `number`, and for text
`TextRun.append`. While a client is attached and up to date, that is the step in which the frame is
handed to the transport; while none is attached, or the client still replays, the frame goes to the
log alone. So a purge never leaves a gap in the numbers.

Two ways lead to the transport. Frames that are *ready* are encoded: answers, and all numbered events
except the output of agents. They are always written, past a full buffer too, and the end of an
interrupted turn is handed over before any record is updated. Output waits in its turn and is numbered
one by one as `OutputPump.next_frames` takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import force_setattr

from bargein_protocol import (
    NO_SEQ,
    NO_TURN,
    Codec,
    Cursor,
    Epoch,
    IndexedText,
    InterruptResult,
    Numbered,
    ReplayDone,
    Seq,
    ServerEvent,
    TurnEnded,
    TurnId,
)

from .change_log import ChangeLog
from .lifecycle import Stage
from .observer import NO_OBSERVER, Observer
from .replay_log import ReplayLog
from .text_run import MAX_UNSETTLED, TextRun
from .turn_record import TurnRecord

N = TypeVar("N", bound=Numbered)
HandOver = Callable[[list[bytes]], None]


class Sequencer:
    """Sequencer of one session; keeps the frames that must be written.

    Attributes:
        epoch: Name of this numbering.
        live: Whether a client is attached and has every numbered frame, so that it can take the next.
        ready: Frames that must be written now, in order; `take_ready` takes them.
        reply_sink: Receives the answers to a request from the side channel; None for all others.
        changes: Log of what a store must write; None without a store.
    """

    __slots__ = (
        "_codec", "_hand_over", "_handed", "_last_run", "_log", "_log_codec", "_log_encode", "_observer",
        "_replayed", "_run", "_turn", "changes", "epoch", "live", "ready", "reply_sink",
    )  # fmt: skip

    def __init__(
        self,
        epoch: Epoch,
        log: ReplayLog,
        codec: Codec,
        observer: Observer = NO_OBSERVER,
        changes: ChangeLog | None = None,
    ) -> None:
        self.epoch = epoch
        self.changes = changes
        self.live = False
        self.reply_sink: list[ServerEvent] | None = None
        self.ready: list[bytes] = []  # few; an empty deque would take 0.7 KiB in every session
        self._handed = 0
        self._log = log
        self._log_encode = codec.encode
        self._log_codec = codec  # of the last client, which is the likeliest to return
        self._codec: Codec | None = None
        self._hand_over: HandOver | None = None
        self._run: TextRun | None = None  # not settled yet
        self._turn: TurnRecord | None = None  # the turn of `_run`
        self._last_run: TextRun | None = None  # continues until another event is numbered
        self._replayed: Seq = NO_SEQ
        self._observer = observer

    @property
    def kept_bytes(self) -> int:
        """Size of the log in memory."""
        return self._log.kept_bytes

    @property
    def attached(self) -> bool:
        """Whether a client is attached."""
        return self._codec is not None

    @property
    def top(self) -> Seq:
        """The last number that was given."""
        self.settle()
        return self._log.top

    @property
    def last(self) -> Seq:
        """The last number that was given; an open run stays open."""
        run = self._run
        return Seq(run.next_seq - 1) if run is not None else self._log.top

    @property
    def corked(self) -> bool:
        """Whether frames wait for a store."""
        return self.changes is not None and self.changes.corked

    @property
    def first(self) -> Seq:
        """Oldest number in the log; one more than `top` when the log is empty."""
        return self._log.first

    @property
    def handed(self) -> int:
        """Number of frames that were ready for or handed to clients."""
        self.settle()
        return self._handed

    @property
    def replayed(self) -> Seq:
        """Last number that was replayed to a client that is not live yet."""
        return self._replayed

    def logged(self, seq: Seq, codec: Codec) -> bytes:
        """Return a frame of the log.

        Raises:
            KeyError: The frame was trimmed, or does not exist yet.
        """
        self.settle()
        return self._log.read(seq, codec)[0]

    # --- clients ---------------------------------------------------------------------------------

    def attach(self, codec: Codec, hand_over: HandOver | None = None) -> None:
        """Attach a client that has every frame, unless `replay_from` follows.

        Args:
            codec: Codec of its frames.
            hand_over: Writes frames that must not wait; raises nothing.
        """
        self.settle()
        self.ready.clear()  # numbered ones are in the log, the others are void with their connection
        self._codec = self._log_codec = codec
        self._log_encode = codec.encode
        self._hand_over = hand_over
        self.live = True

    def replay_from(self, cursor: Cursor) -> bool:
        """Hold live frames back until all frames after the cursor are replayed.

        Returns:
            Whether the log still has all of them. If not, the client needs a snapshot, and
            `finish_replay` after that.
        """
        self.live = False
        self._replayed = cursor.seq
        return cursor.seq + 1 >= self._log.first

    def detach(self) -> None:
        """Detach the client; from now on frames go to the log alone."""
        self.settle()
        self._codec = self._hand_over = None
        self.ready.clear()
        self.live = False

    # --- events ----------------------------------------------------------------------------------

    def answer(self, event: ServerEvent) -> None:
        """Make an unnumbered event ready; without a client it is dropped."""
        if self.reply_sink is not None:
            self.reply_sink.append(event)
        elif self._codec is not None:
            frame = self._codec.encode(event)
            self._handed += 1
            changes = self.changes
            if changes is not None and self._hand_over is not None and _overtakes(event, changes):
                self._hand_over([frame])
            else:
                self.ready.append(frame)
        else:
            return
        self._observer.answered(event)

    def number(self, event: N, at_once: bool = False) -> N:
        """Number an event, log it, and make its frame ready for a live client.

        Args:
            event: A new event that no other object holds; its number is set in place.
            at_once: Whether to hand it over, after all ready frames, before the records are updated, unless
                these wait for a store.

        Returns:
            The event.
        """
        run = self._run
        if run is not None and not at_once:
            self.settle()
            run = None
        # The event is new, so setting the field of the frozen struct is safe and cheaper than a copy.
        force_setattr(event, "seq", self._log.top + 1 if run is None else run.next_seq)
        frame = self._log_encode(event)  # type: ignore[arg-type]
        live = self.live
        if live:
            self.ready.append(frame)
            self._handed += 1
            changes = self.changes
            if at_once and self._hand_over is not None and (changes is None or not changes.corked):
                ready, self.ready = self.ready, []
                self._hand_over(ready)
        if run is not None:
            self.settle()
        if self.changes is not None:
            self.changes.numbered(event, live, at_once)
        end = event if isinstance(event, TurnEnded) else None
        self._log.append(frame, self._log_codec, getattr(event, "turn_id", NO_TURN), end)
        return event

    def restore(self, epoch: Epoch, top: Seq) -> None:
        """Continue a stored numbering, whose frames are gone."""
        self.epoch = epoch
        self._log.top, self._log.first = top, Seq(top + 1)

    # --- text ------------------------------------------------------------------------------------

    def text_run(self, turn: TurnRecord) -> TextRun:
        """Return the run that numbers the text of a turn's main lane.

        It is valid until another event is numbered.
        """
        run = self._run
        if run is not None:
            if self._turn is turn and run.unsettled < MAX_UNSETTLED:
                return run
            self.settle()
        text, seq, run = turn.fold.main_lane.text, Seq(self._log.top + 1), self._last_run
        full = text.length >= text.max_chars
        if (
            run is None
            or run.turn_id != turn.id
            or run.next_seq != seq
            or run.codec is not self._log_codec
            or (full and run.text is text)
        ):
            if full:
                text = IndexedText(text.max_chars)  # the log alone keeps it, and trims it with the run
            run = self._last_run = TextRun(self._log_codec, turn.id, text, seq, seq)
        text = run.text
        run.pieces, run.room = text.tail(), text.max_chars - text.length
        self._run, self._turn = run, turn
        return run

    def taken_of(self, turn: TurnRecord) -> Seq | None:
        """Return the number of a turn's last unsettled text, None without one.

        A live socket has taken that text.
        """
        run = self._run
        if run is None or self._turn is not turn or not run.unsettled or not self.live:
            return None
        return Seq(run.next_seq - 1)

    def settle(self) -> None:
        """Close the text run and update the records from it.

        Text that the flush scheduler has not written yet goes back into the turn's queue, where an
        interrupt purges it (contract 2).
        """
        run, turn = self._run, self._turn
        if run is None or turn is None:
            return
        self._run = self._turn = None
        run.open = False
        count = run.unsettled
        if count:
            if self.changes is not None:
                self._capture(self.changes, run, turn)
            self._log.append_text(run, run.settle())
            fold, last = turn.fold, run.next_seq - 1
            fold.last_seq = fold.last_output_seq = last  # type: ignore[assignment]  # see TextRun.append
            if run.written_at > turn.progress_at:
                turn.progress_at = run.written_at
            if self.live:
                turn.heard_position.taken = fold.last_output_seq
                self._handed += count
        if run.deferred:
            deferred, run.deferred = run.deferred, ()
            if turn.stage is not Stage.ENDED:
                for text in deferred:
                    turn.put_text(text)

    def capture_text(self) -> None:
        """Record the text of the open run for a store; the run stays open."""
        if self.changes is not None and self._run is not None and self._turn is not None:
            self._capture(self.changes, self._run, self._turn)

    def _capture(self, changes: ChangeLog, run: TextRun, turn: TurnRecord) -> None:
        last = Seq(run.next_seq - 1)
        count = min(last - changes.told, run.unsettled)
        if count > 0:
            changes.add_text(turn.id, last, self.live, "".join(run.pieces[-count:]))

    # --- frames ----------------------------------------------------------------------------------

    def take_ready(self) -> list[bytes]:
        """Return and forget the frames that must be written now, in order."""
        frames, self.ready = self.ready, []
        return frames

    def next_replayed(self) -> tuple[bytes, TurnId, Seq] | None:
        """Return the next frame of the replay with its turn and number.

        After the last one the client is live and `replay.done` is ready; then the method returns None, as
        it does for a client that is live already.

        Raises:
            KeyError: The log has trimmed the next frame; the client needs a snapshot.
        """
        if self.live or self._codec is None:
            return None
        if self._replayed == self.top:
            self.finish_replay()
            return None
        seq = Seq(self._replayed + 1)
        frame, turn_id = self._log.read(seq, self._codec)
        self._replayed = seq
        self._handed += 1
        return frame, turn_id, seq

    def finish_replay(self) -> None:
        """Make the client live and report the end of the replay."""
        top = self.top
        self.live = True
        self.answer(ReplayDone(through=top))


def _overtakes(event: ServerEvent, changes: ChangeLog) -> bool:
    """Return whether an answer leaves before frames that wait for a store.

    The answer to an interrupt never waits (contract 3). The end that it asked for is numbered, so it stays
    behind the frames that wait; otherwise an accepted input could be told and lost.
    """
    return changes.corked and not changes.opening and isinstance(event, InterruptResult)
