"""Change log of a session: changes not yet stored, and those that bind.

What *binds* is stored before a client learns of it: its token, an accepted or queued input, a rewind, and an
end that no interrupt asked for. Until then the session is *corked*: the sequencer hands nothing over, except
the answer to an interrupt and the end that it asked for (contract 3). Output is told first and stored
later. A session without a store has no change log.

Binding changes are counted, because a write that is under way is not stored yet: a flag would also be
cleared by the answer to an earlier write.
"""

from __future__ import annotations

from collections.abc import Callable

from bargein_protocol import (
    NO_SEQ,
    AgentOutput,
    InputAccepted,
    InputQueued,
    Numbered,
    Seq,
    SessionRewound,
    TurnEnded,
    TurnEvent,
    TurnHeld,
    TurnId,
    TurnResumed,
    TurnStarted,
)

from .records import Piece, Reply


class ChangeLog:
    """Changes of one session since its last write.

    Args:
        changed: Called when there is something to write; its argument says whether it binds.

    Attributes:
        whole: Whether the store needs all of the session, because it has nothing or something else.
        head: Whether tokens, metadata or values have changed.
        turns: Turns whose records have changed, oldest first.
        dropped: Turns that the session has forgotten.
        ended: Turns whose pieces are void, because their records hold their output now.
        replies: New answers to requests.
        pieces: Output of the running turn.
        positions: Place of each turn in the history: the number of its start or acceptance.
        told: The last number whose text is in `pieces`.
        speaking: The turn that runs, so that output may come without a call; None without one.
        mark: Number of binding changes so far.
        kept: Number of binding changes that are stored.
        corked: Whether nothing may be handed over.
        opening: Whether a client waits for its `session.opened`.
        closed: Whether the client has ended the session for good.
    """

    __slots__ = (
        "_changed", "_noted", "closed", "corked", "dropped", "ended", "head", "kept", "mark", "opening",
        "pieces", "positions", "replies", "speaking", "told", "turns", "whole",
    )  # fmt: skip

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self._noted = False
        self.whole = True
        self.head = True
        self.turns: dict[TurnId, None] = {}
        self.dropped: list[TurnId] = []
        self.ended: list[TurnId] = []
        self.replies: dict[str, Reply] = {}
        self.pieces: list[Piece] = []
        self.positions: dict[TurnId, Seq] = {}
        self.told: Seq = NO_SEQ
        self.speaking: TurnId | None = None
        self.mark = self.kept = 0
        self.corked = self.opening = self.closed = False

    # --- changes ---------------------------------------------------------------------------------

    def numbered(self, event: Numbered, live: bool, asked: bool) -> None:
        """Record an event that was numbered.

        Args:
            event: The event.
            live: Whether a client takes it now.
            asked: Whether an interrupt asked for it; then it is told already.
        """
        if isinstance(event, SessionRewound):
            self.bind()
            return
        if not isinstance(event, TurnEvent):  # speech and transcripts: only the number counts
            self.touch_head()
            return
        turn_id = event.turn_id
        if isinstance(event, (InputAccepted, InputQueued)):
            self.positions[turn_id] = event.seq
            self.touch(turn_id)
            self.bind()
        elif isinstance(event, TurnStarted):
            self.positions[turn_id] = event.seq
            self.speaking = turn_id
            self.touch(turn_id)
        elif isinstance(event, TurnEnded):
            if turn_id == self.speaking:  # a queued turn may end while another one runs
                self.speaking = None
            self.pieces = [piece for piece in self.pieces if piece.turn_id != turn_id]
            self.ended.append(turn_id)
            self.touch(turn_id)
            if not asked:
                self.bind()
        elif not self.whole:
            assert isinstance(event, (AgentOutput, TurnHeld, TurnResumed))
            self.pieces.append(Piece(turn_id, event.seq, live, event=event))

    def add_text(self, turn_id: TurnId, last: Seq, live: bool, text: str) -> None:
        """Record text of the main lane.

        Args:
            turn_id: The turn.
            last: The number of its last delta.
            live: Whether a client has taken it.
            text: The text of the deltas that follow `told`.
        """
        self.told = last
        if self.whole:
            return
        before = self.pieces[-1] if self.pieces else None
        if (
            before is not None
            and before.text is not None
            and before.turn_id == turn_id
            and before.live is live
        ):
            self.pieces[-1] = Piece(turn_id, last, live, before.text + text)
        else:
            self.pieces.append(Piece(turn_id, last, live, text))

    def touch(self, turn_id: TurnId) -> None:
        """Record that a turn's record has changed."""
        self.turns[turn_id] = None
        self.note()

    def forget(self, turn_id: TurnId) -> None:
        """Record that the session has forgotten a turn."""
        self.dropped.append(turn_id)
        self.turns.pop(turn_id, None)
        self.positions.pop(turn_id, None)
        self.note()

    def reply(self, request_id: str, reply: Reply) -> None:
        """Record the first answer to a request."""
        self.replies[request_id] = reply
        self.note()

    def touch_head(self) -> None:
        """Record that tokens, metadata or values have changed."""
        self.head = True
        self.note()

    def close(self) -> None:
        """Record that the client has ended the session for good."""
        self.closed = True

    def note(self) -> None:
        """Report once that there is something to write."""
        if not self._noted:
            self._noted = True
            self._changed(False)

    def bind(self) -> None:
        """Cork the session until everything up to now is stored."""
        self.mark += 1
        self.corked = True
        self._changed(True)

    # --- writes ----------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget the changes, because a write takes them."""
        self._noted = self.whole = self.head = False
        self.turns.clear()
        self.dropped, self.ended, self.pieces, self.replies = [], [], [], {}

    def take_pieces(self) -> list[Piece]:
        """Return the output and forget it: a write takes it, and only it is left."""
        pieces, self.pieces = self.pieces, []
        self._noted = False
        return pieces

    def store_all(self) -> None:
        """Ask for a write of the whole session, because the store has lost it."""
        self.clear()
        self.whole = True
        self.note()

    def stored(self, mark: int) -> bool:
        """Record that changes to a mark are stored; return whether that uncorks."""
        self.kept = max(self.kept, mark)
        if not self.corked or self.kept < self.mark:
            return False
        self.corked = self.opening = False
        return True
