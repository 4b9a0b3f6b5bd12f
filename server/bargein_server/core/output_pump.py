"""Hands output over: to the client that is attached, or to the log alone.

This is the step in which output gets its number (contract 2), counts as taken by a live socket
(contract 7), and in which a turn whose agent has returned gets its end (contract 1).
"""

from __future__ import annotations

from msgspec.structs import replace

from bargein_protocol import NO_SEQ, Seq, TurnId

from .reply_cache import ReplyCache
from .sequencer import Sequencer
from .snapshots import bounded_snapshot
from .turn_record import COMPLETED, Misuse, State, TurnRecord
from .turn_scheduler import TurnScheduler
from .utterance import Before, Utterance


class OutputPump:
    """See the module."""

    __slots__ = ("_answers", "_stream", "_table")

    def __init__(self, stream: Sequencer, table: TurnScheduler, answers: ReplyCache) -> None:
        self._answers = answers
        self._stream = stream
        self._table = table

    def next_frames(self, output: bool, room: int) -> list[bytes]:
        """Return the next frames for the client; they count as written in this step.

        Args:
            output: False while the transport is full: then only what must not wait is returned.
            room: In bytes, for output; the last frame may go beyond it.

        Returns:
            As many as can be taken in one step, at least one; none when there is nothing to write.
        """
        stream, turn = self._stream, self._table.current
        if stream.ready:
            return stream.take_ready()
        if not output:
            if turn is not None:
                turn.choked = True
            return []
        if not stream.live:
            return self._next_replayed()
        if turn is None or turn.held_until is not None:
            return []
        texts = turn.next_texts() if turn.speaks else []
        frames = stream.commit_texts(turn.fold, texts, room) if texts else []
        if frames:
            turn.drop_texts(texts[: len(frames)])
        else:
            frame = self._commit_next(turn)
            if frame is None:
                return stream.take_ready()
            frames = [frame]
        turn.hearing.taken = turn.fold.last_output_seq
        if turn.deferred is not None or turn.hold_wanted:
            self._table.settle(turn)
        return frames

    def begin_utterance(self, turn_id: TurnId) -> Utterance | None:
        """Let a turn speak without asking for each piece of text, in the usual case.

        The client is there, no output stands before the text, and nothing is asked of the turn. What
        is ready goes out before the first piece (`take_ready`), and the session is not to be asked
        anything until the utterance was entered.

        Returns:
            None in all other cases, for which there are `Session.emit` and `next_frames`.
        """
        turn, stream = self._table.current, self._stream
        if (
            turn is None
            or turn.id != turn_id
            or turn.state is not State.RUNNING
            or turn.queued_bytes
            or turn.held_until is not None
            or turn.deferred is not None
            or turn.sections
            or not stream.live
        ):
            return None
        return stream.begin_utterance(turn_id, self._before(turn))

    def take_ready(self) -> list[bytes]:
        """Return the frames that stand before an utterance, and forget them."""
        return self._stream.take_ready()

    def _before(self, turn: TurnRecord) -> Before | None:
        """Return what the end of a turn tells; None when what was heard is not all that was said."""
        lane = turn.fold.main_lane
        if lane.audio or turn.hearing.reported:
            return None
        return Before(turn.input.id, *lane.text.parts, turn.usage, self._answers.ids)

    def enter(self, utterance: Utterance) -> None:
        """End an utterance: let the records know what was said.

        Raises:
            Misuse: The session was asked something meanwhile.
        """
        if not utterance.pieces:
            return
        turn = self._table.current
        if turn is None or turn.id != utterance.turn_id:
            raise Misuse(f"expected an utterance of the current turn, got one of {utterance.turn_id}")
        self._stream.commit_utterance(turn.fold, utterance)
        turn.hearing.taken = turn.fold.last_output_seq
        self._table.now = turn.progress_at = utterance.said_at

    def drain_to_log(self) -> None:
        """Write what waits to the log alone: nobody is there to read it."""
        while (turn := self._table.current) is not None and turn.held_until is None:
            if self._commit_next(turn) is None and turn is self._table.current:
                return
            if turn.deferred is not None or turn.hold_wanted:
                self._table.settle(turn)

    def send_snapshot(self, after: Seq) -> None:
        """Take the place of a replay: tell the turns as they stand, from those after a number on."""
        turns = self._table.turns_since(after)
        for answer in self._answers.replies_since(after):
            if answer.turn_id not in self._table.turns:  # nothing else tells of it any more (contract 4)
                self._stream.answer(replace(answer, seq=NO_SEQ, duplicate=True))
        self._stream.answer(bounded_snapshot(self._stream.top, [turn.fold.folded() for turn in turns]))
        for turn in turns:
            turn.hearing.taken = turn.fold.last_output_seq
        self._stream.finish_replay()

    def _commit_next(self, turn: TurnRecord) -> bytes | None:
        """Number the turn's next output, or its end when none waits and the agent is done."""
        output = turn.take()
        if output is None:
            turn.choked = False
            if turn.state is State.FINISHING:
                self._table.end(turn, turn.ending or COMPLETED)
                self._table.start_next()
            return None
        if isinstance(output, str):
            try:
                return self._stream.commit_text(turn.fold, output)
            except UnicodeEncodeError:
                # The seam of two chunks can leave half a surrogate pair behind.
                return self._stream.commit_text(turn.fold, output.encode("utf-8", "replace").decode())
        live = self._stream.live
        event = self._stream.commit(replace(output, turn_id=turn.id))
        turn.fold.apply(event)
        return self._stream.take_ready()[0] if live else b""

    def _next_replayed(self) -> list[bytes]:
        try:
            entry = self._stream.next_replayed()
        except KeyError:
            self.send_snapshot(self._stream.replayed)
            entry = None
        if entry is None:
            return self._stream.take_ready()
        frame, turn_id, seq = entry
        turn = self._table.turns.get(turn_id)
        if turn is not None:
            turn.hearing.taken = max(turn.hearing.taken, min(seq, turn.fold.last_output_seq))
        return [frame]
