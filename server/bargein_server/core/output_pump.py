"""Hands output over: to the client that is attached, or to the log alone.

This is the step in which output gets its number (contract 2), counts as taken by a live socket
(contract 7), and in which a turn whose agent has returned gets its end (contract 1).
"""

from __future__ import annotations

from msgspec.structs import replace

from bargein_protocol import NO_SEQ, Seq, TextDelta, TurnId

from .lifecycle import Flow, Stage
from .replay_log import bounded_snapshot
from .requests import ReplyCache
from .sequencer import Sequencer
from .text_run import TextRun
from .turn_record import COMPLETED, TurnRecord
from .turn_scheduler import TurnScheduler


class OutputPump:
    """Takes output from the current turn, and frames from the replay, for one client."""

    __slots__ = ("_replies", "_sequencer", "_turns")

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler, replies: ReplyCache) -> None:
        self._replies = replies
        self._sequencer = sequencer
        self._turns = turns

    def next_frames(self, output: bool, room: int) -> list[bytes]:
        """Return the next frames for the client; they count as written in this step.

        Args:
            output: False while the transport is full: then only frames that must not wait are returned.
            room: Bytes of output; the last frame may go beyond them.

        Returns:
            As many frames as can be taken in one step, at least one; none when there is nothing to write.
        """
        sequencer, turn = self._sequencer, self._turns.current
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
            if frame is None:
                return sequencer.take_ready()
            frames = [frame]
            turn.heard_position.taken = turn.fold.last_output_seq
        if turn.flow is not Flow.OPEN:
            self._turns.release(turn)
        return frames

    def open_text(self, turn_id: TurnId) -> TextRun | None:
        """Let the host append text to the tail of the log itself, in the usual case.

        The client is there, no output waits before the text, and nothing is asked of the turn. Ready
        frames go out before the first piece (`take_ready`). The core closes the run as soon as it
        numbers or looks at anything else.

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
        ):
            return None
        run = sequencer.text_run(turn)
        run.open = True
        return run

    def take_ready(self) -> list[bytes]:
        """Return the frames that must go out before an open run, and forget them."""
        return self._sequencer.take_ready()

    def settle(self) -> None:
        """Close an open run; its deferred text takes the way through the core."""
        self._sequencer.settle()

    def drain_to_log(self) -> None:
        """Write waiting output to the log alone: no client is there to read it."""
        while (turn := self._turns.current) is not None and not turn.held:
            if self._number_next(turn) is None and turn is self._turns.current:
                return
            if turn.flow is not Flow.OPEN:
                self._turns.release(turn)

    def send_snapshot(self, after: Seq) -> None:
        """Send the turns as they stand, from those after a number on, in place of a replay."""
        turns = self._turns.turns_since(after)
        for reply in self._replies.replies_since(after):
            if reply.turn_id not in self._turns.turns:  # nothing else reports it any more (contract 4)
                self._sequencer.answer(replace(reply, seq=NO_SEQ, duplicate=True))
        top = self._sequencer.top
        self._sequencer.answer(bounded_snapshot(top, [turn.fold.folded() for turn in turns]))
        for turn in turns:
            turn.heard_position.taken = turn.fold.last_output_seq
        self._sequencer.finish_replay()

    def _number_texts(self, turn: TurnRecord, room: int) -> list[bytes]:
        """Number the plain text that is next, up to `room` bytes."""
        texts = turn.next_texts()
        frames: list[bytes] = []
        if not texts:
            return frames
        run, size = self._sequencer.text_run(turn), 0
        for text in texts:
            frame = run.append(text, turn.progress_at)
            if frame is None:
                break
            frames.append(frame)
            size += len(frame)
            if size >= room:
                break
        turn.drop_texts(texts[: len(frames)])
        return frames

    def _number_next(self, turn: TurnRecord) -> bytes | None:
        """Number the turn's next output, or its end when none waits and the agent is done."""
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
            # It is longer than the rest of the turn's record.
            output = TextDelta(text=output.encode("utf-8", "replace").decode())
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
        return [frame]
