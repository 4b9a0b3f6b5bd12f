"""Side channel of a session: requests and followers beside its client.

Neither displaces or slows the client that drives the session. Frames that a follower reads do not count
as heard. A follower reads the log at its own pace; when the log has trimmed its next frame, it has lagged
and must begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from bargein_protocol import (
    NO_SEQ,
    ClientEvent,
    Codec,
    Cursor,
    InputId,
    InputText,
    ReplayDone,
    Seq,
    ServerEvent,
    TurnFold,
)

from .history import Message, conversation
from .lifecycle import Stage
from .output_pump import OutputPump
from .replay_log import bounded_snapshot
from .requests import Requests
from .sequencer import Sequencer
from .turn_scheduler import TurnScheduler


class Lagged(Exception):
    """The log has trimmed the follower's next frame."""


class SharedSnapshot:
    """An encoded snapshot for all followers that need it at the time.

    Attributes:
        frame: The encoded event.
        users: Number of connections that have not sent it yet.
    """

    __slots__ = ("__weakref__", "frame", "users")

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.users = 0


Snapshots = WeakValueDictionary[tuple[int, int, str], SharedSnapshot]
"""Snapshots in use, by their cursor, their last number and the name of their codec."""


class Follower:
    """Reader of one session's frames from a number on.

    Args:
        sequencer: The session's sequencer.
        turns: Its turns.
        codec: Codec of the frames.
        after: The last number that the follower has. When the log does not reach back to it, a
            snapshot of the turns comes first.
        snapshots: The session's snapshots in use.
    """

    __slots__ = ("_after", "_caught_up", "_codec", "_complete", "_sequencer", "_snapshots", "_turns")

    def __init__(
        self, sequencer: Sequencer, turns: TurnScheduler, codec: Codec, after: Seq, snapshots: Snapshots
    ) -> None:
        self._snapshots = snapshots
        self._sequencer = sequencer
        self._turns = turns
        self._codec = codec
        self._after = after
        self._complete = after + 1 >= sequencer.first
        self._caught_up = False

    def snapshot(self) -> SharedSnapshot | None:
        """Return the snapshot that comes first, None when the log is enough.

        It is encoded once for all followers with the same cursor, for as long as one of them keeps it.
        """
        if self._complete:
            return None
        top = self._sequencer.top  # first: it updates the turns from an open run
        key = (self._after, top, self._codec.subprotocol)
        shared = self._snapshots.get(key)
        if shared is None:
            turns = [turn.fold.folded() for turn in self._turns.turns_since(self._after)]
            shared = SharedSnapshot(self._codec.encode(bounded_snapshot(top, turns)))
            self._snapshots[key] = shared
        return shared

    def next_frame(self) -> bytes | None:
        """Return the next frame, None when nothing is new.

        Raises:
            Lagged: The next frame was trimmed. A new follower gets a snapshot.
        """
        shared = self.snapshot()
        if shared is not None:
            self._complete = True
            self._after = self._sequencer.top
            return shared.frame
        if self._sequencer.corked:
            return None
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
    """Access to a session for requests and followers.

    Args:
        sequencer: The session's sequencer.
        turns: Its turns.
        requests: Its request handlers.
    """

    __slots__ = ("_output", "_requests", "_sequencer", "_snapshots", "_turns")

    def __init__(
        self, sequencer: Sequencer, turns: TurnScheduler, requests: Requests, output: OutputPump
    ) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._requests = requests
        self._output = output
        self._snapshots: Snapshots | None = None  # few sessions have followers

    @property
    def cursor(self) -> Cursor:
        """The last number, with its epoch."""
        return Cursor(epoch=self._sequencer.epoch, seq=self._sequencer.top)

    def request(self, event: ClientEvent, now: float) -> Sequence[ServerEvent]:
        """Handle an event; return the unnumbered answers to it."""
        self._turns.now = now
        self._sequencer.settle()
        answers: list[ServerEvent] = []
        self._sequencer.reply_sink = answers
        try:
            self._requests.handle(event)
        finally:
            self._sequencer.reply_sink = None
        if not self._sequencer.attached:
            self._output.drain_to_log()
        return answers

    def is_over(self, input_id: InputId) -> bool:
        """Return whether an input's turn has ended or does not exist.

        An end that waits for a store does not count yet.
        """
        turn = self._turns.by_input.get(input_id)
        return (turn is None or turn.stage is Stage.ENDED) and not self._sequencer.corked

    def turn_of(self, input_id: InputId) -> TurnFold | None:
        """Return the folded events of an input's turn, None without a turn."""
        self._sequencer.settle()
        turn = self._turns.by_input.get(input_id)
        return None if turn is None else turn.fold

    def messages(self) -> list[Message]:
        """Return the conversation so far, in the shape of chat completions."""
        self._sequencer.settle()
        return conversation(self._turns.turns.values())

    def inputs(self) -> list[InputText]:
        """Return the conversation's inputs so far, in the order of their turns."""
        return [
            turn.input
            for turn in self._turns.turns.values()
            if not turn.fold.dropped and (turn.fold.started or turn.stage is not Stage.ENDED)
        ]

    def follow(self, codec: Codec, cursor: Cursor | None) -> Follower | None:
        """Return a follower of the session.

        Args:
            codec: Codec of its frames.
            cursor: The last frame that it has; None for none.

        Returns:
            None when the cursor does not belong to this session.
        """
        self._sequencer.settle()
        if cursor is not None and (cursor.epoch != self._sequencer.epoch or cursor.seq > self._sequencer.top):
            return None
        if self._snapshots is None:
            self._snapshots = WeakValueDictionary()
        after = NO_SEQ if cursor is None else cursor.seq
        return Follower(self._sequencer, self._turns, codec, after, self._snapshots)
