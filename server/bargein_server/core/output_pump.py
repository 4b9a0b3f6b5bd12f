"""Output pump: hands output to the attached client, or to the log alone.

In this step output gets its number (contract 2) and counts as taken by a live socket (contract 7), and
a turn whose agent has returned gets its end (contract 1).
"""

from __future__ import annotations

from msgspec.structs import replace

from bargein_protocol import NO_SEQ, Seq, SessionRewound, TextDelta, TurnId

from .lifecycle import Flow, Stage
from .plain_values import plain_text
from .replay_log import bounded_snapshot
from .requests import ReplyCache
from .sequencer import Sequencer
from .text_run import TextRun
from .turn_record import COMPLETED, TurnRecord
from .turn_scheduler import TurnScheduler


class OutputPump:
    """Source of a client's frames: output of the current turn, and replay."""

    __slots__ = ("_replies", "_sequencer", "_turns")

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler, replies: ReplyCache) -> None:
        self._replies = replies
        self._sequencer = sequencer
        self._turns = turns

    def next_frames(self, output: bool, room: int) -> list[bytes]:
        """Return the next frames for the client, which count as written.

        Args:
            output: Whether output may be written; False while the transport is full. Then only frames
                that must not wait are returned.
            room: Maximum bytes of output; the last frame may exceed them.

        Returns:
            As many frames as can be taken in one step, at least one; none when there is nothing to write.
        """
        sequencer, turn = self._sequencer, self._turns.current
        if sequencer.changes is not None and sequencer.changes.corked:
            return []
        if sequencer.ready:
            return sequencer.take_ready()
        if not output:
            if turn is not None:
                turn.choked = True
            return []
        if not sequencer.live:
            return self._next_replayed()
        if turn is None or turn.held:
            return []
        frames = self._number_texts(turn, room)
        if not frames:
            frame = self._number_next(turn)
            if frame is None:  # an end that was numbered now may have to be stored first
                return [] if sequencer.corked else sequencer.take_ready()
            frames = [frame]
            turn.heard_position.taken = turn.fold.last_output_seq
        if turn.flow is not Flow.OPEN:
            self._turns.release(turn)
        return frames

    def open_text(self, turn_id: TurnId) -> TextRun | None:
        """Return a run to which the host may append text directly.

        This is for the usual case: a client is attached and up to date, no output waits before the text,
        and the turn is neither held nor protected. Ready frames go out before the first piece
        (`take_ready`). The core closes the run as soon as it numbers or reads anything else.

        Returns:
            None in all other cases, for which there are `Session.emit` and `next_frames`.
        """
        turn, sequencer = self._turns.current, self._sequencer
        if (
            turn is None
            or turn.id != turn_id
            or turn.stage is not Stage.RUNNING
            or turn.flow is not Flow.OPEN
            or turn.queued_bytes
            or not sequencer.live
            or (sequencer.changes is not None and sequencer.changes.corked)
        ):
            return None
        run = sequencer.text_run(turn)
        run.open = True
        return run

    def take_ready(self) -> list[bytes]:
        """Return and forget the frames that must go out before an open run."""
        return self._sequencer.take_ready()

    def settle(self) -> None:
        """Close an open run; its deferred text returns to the turn's queue."""
        self._sequencer.settle()

    def drain_to_log(self) -> None:
        """Write waiting output to the log alone, because no client is attached."""
        while (turn := self._turns.current) is not None and not turn.held:
            if self._number_next(turn) is None and turn is self._turns.current:
                return
            if turn.flow is not Flow.OPEN:
                self._turns.release(turn)

    def received_up_to(self, seq: Seq) -> None:
        """Record which output a client that resumes has received."""
        self._sequencer.settle()
        for turn in self._turns.turns.values():
            # Frames beyond the cursor never arrived; those before it did, even if no store has that.
            received = min(turn.fold.last_output_seq, seq)
            if turn.heard_position.taken != received:
                turn.heard_position.taken = received
                self._turns.touched(turn.id)

    def send_snapshot(self, after: Seq) -> None:
        """Send the state of all turns after a number, in place of a replay."""
        turns = self._turns.turns_since(after)
        for reply in self._replies.replies_since(after):
            # Nothing else reports these: a snapshot has no ids of rewinds, and no turns that are forgotten.
            if isinstance(reply, SessionRewound) or reply.turn_id not in self._turns.turns:
                self._sequencer.answer(replace(reply, seq=NO_SEQ, duplicate=True))
        top = self._sequencer.top
        self._sequencer.answer(bounded_snapshot(top, [turn.fold.folded() for turn in turns]))
        for turn in turns:
            turn.heard_position.taken = turn.fold.last_output_seq
            self._turns.touched(turn.id)
        self._sequencer.finish_replay()

    def _number_texts(self, turn: TurnRecord, room: int) -> list[bytes]:
        """Number the next plain text, up to `room` bytes."""
        texts = turn.next_texts()
        if not texts:
            return []
        frames = self._sequencer.text_run(turn).extend(texts, turn.progress_at, room)
        turn.drop_texts(texts[: len(frames)])
        self._sequencer.settle()  # here, because the agent's next output would pay for it in its time slice
        return frames

    def _number_next(self, turn: TurnRecord) -> bytes | None:
        """Number the turn's next output, or its end after the last output."""
        output = turn.take()
        if output is None:
            turn.choked = False
            if turn.stage is Stage.FINISHING:
                self._turns.end(turn, turn.ending or COMPLETED)
                self._turns.start_next()
            return None
        sequencer = self._sequencer
        if isinstance(output, str):
            frame = sequencer.text_run(turn).append(output, turn.progress_at)
            if frame is not None:
                return frame
            sequencer.settle()
            frame = sequencer.text_run(turn).append(output, turn.progress_at)
            if frame is not None:
                return frame
            # The text is longer than the rest of the turn's record.
            output = TextDelta(text=plain_text(output))
        event = sequencer.number(replace(output, turn_id=turn.id))
        turn.fold.apply(event)
        return sequencer.take_ready()[0] if sequencer.live else b""

    def _next_replayed(self) -> list[bytes]:
        try:
            entry = self._sequencer.next_replayed()
        except KeyError:
            self.send_snapshot(self._sequencer.replayed)
            entry = None
        if entry is None:
            return self._sequencer.take_ready()
        frame, turn_id, seq = entry
        turn = self._turns.turns.get(turn_id)
        if turn is not None:
            position = turn.heard_position
            position.taken = max(position.taken, min(seq, turn.fold.last_output_seq))
            self._turns.touched(turn_id)
        return [frame]
