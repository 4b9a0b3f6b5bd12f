"""Who takes part in a session without driving it: asks something of it, or follows it.

A guest never displaces the client that drives, and never throttles it. What a follower reads does
not count as heard: it reads what was logged, at its own pace, and when the log has trimmed what it
would read next, it has fallen off.
"""

from __future__ import annotations

from collections.abc import Sequence

from bargein_protocol import (
    NO_SEQ,
    ClientEvent,
    Codec,
    Cursor,
    InputId,
    ReplayDone,
    Seq,
    ServerEvent,
    TurnFold,
)

from .lifecycle import Stage
from .replay_log import bounded_snapshot
from .requests import Requests
from .sequencer import Sequencer
from .turn_scheduler import TurnScheduler


class Lagged(Exception):
    """The log has trimmed what the follower would read next."""


class Follower:
    """Reads one session's frames from a number on.

    Args:
        sequencer: The session's sequencer.
        turns: Its turns.
        codec: What frames are encoded in.
        after: The last number that the follower knows. When the log does not reach back to it, a
            snapshot of the turns comes first.
    """

    __slots__ = ("_after", "_caught_up", "_codec", "_sequencer", "_told", "_turns")

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler, codec: Codec, after: Seq) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._codec = codec
        self._after = after
        self._told = after + 1 >= sequencer.first
        self._caught_up = False

    def next_frame(self) -> bytes | None:
        """Return the next frame, None when nothing is new.

        Raises:
            FellOff: What comes next is gone. A new follower gets a snapshot.
        """
        if not self._told:
            self._told = True
            top = self._sequencer.top  # first: it brings the turns up to date with an open text run
            turns = [turn.fold.folded() for turn in self._turns.turns_since(self._after)]
            self._after = top
            return self._codec.encode(bounded_snapshot(self._after, turns))
        if self._after < self._sequencer.top:
            seq = Seq(self._after + 1)
            try:
                frame = self._sequencer.logged(seq, self._codec)
            except KeyError:
                raise Lagged from None
            self._after = seq
            return frame
        if not self._caught_up:
            self._caught_up = True
            return self._codec.encode(ReplayDone(through=self._after))
        return None


class SideChannel:
    """See the module."""

    __slots__ = ("_requests", "_sequencer", "_turns")

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler, requests: Requests) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._requests = requests

    @property
    def cursor(self) -> Cursor:
        """The last number, and of which numbering."""
        return Cursor(epoch=self._sequencer.epoch, seq=self._sequencer.top)

    def request(self, event: ClientEvent, now: float) -> Sequence[ServerEvent]:
        """Take an event of a guest; return the unnumbered answers to it."""
        self._turns.now = now
        self._sequencer.settle()
        answers: list[ServerEvent] = []
        self._sequencer.reply_sink = answers
        try:
            self._requests.handle(event)
        finally:
            self._sequencer.reply_sink = None
        return answers

    def is_over(self, input_id: InputId) -> bool:
        """Whether nothing more will come of an input: its turn ended, or it has none."""
        turn = self._turns.by_input.get(input_id)
        return turn is None or turn.stage is Stage.ENDED

    def turn_of(self, input_id: InputId) -> TurnFold | None:
        """Return the folded events of an input's turn, None when it has none."""
        self._sequencer.settle()
        turn = self._turns.by_input.get(input_id)
        return None if turn is None else turn.fold

    def follow(self, codec: Codec, cursor: Cursor | None) -> Follower | None:
        """Return who reads the session's frames.

        Args:
            codec: What they are encoded in.
            cursor: What is known of them; None for nothing.

        Returns:
            None when the cursor is not of this session.
        """
        self._sequencer.settle()
        if cursor is not None and (cursor.epoch != self._sequencer.epoch or cursor.seq > self._sequencer.top):
            return None
        return Follower(self._sequencer, self._turns, codec, NO_SEQ if cursor is None else cursor.seq)
