"""What the client knows of one turn."""

from __future__ import annotations

from bargein_protocol import NO_TURN, InputId, Played, TurnEnded, TurnFold, TurnId

from .events import TurnSnapshot
from .inbox import Bounds, Inbox


class TrackedTurn:
    """One turn, from the moment its input is given to the core.

    Attributes:
        input_id: Its input, None for a turn that this client did not ask for.
        fold: Everything it said and did, also what was never delivered.
        inbox: What its consumer has still to take.
        queued: It waits behind another turn.
        muters: Ids of the requests that want it ended and have no answer yet.
        silenced: One of them was heard: nothing of its output is delivered any more.
        spared: One of them waits for a protected section: the rest of its output is to be heard.
        reported: The application said what was heard.
        implied: The core said it for the application, in an interrupt.
        over: It ended, or its input was refused; the core has let go of it.
    """

    __slots__ = (
        "fold",
        "implied",
        "inbox",
        "input_id",
        "muters",
        "over",
        "queued",
        "reported",
        "silenced",
        "spared",
    )

    def __init__(self, input_id: InputId | None, bounds: Bounds) -> None:
        self.input_id = input_id
        self.fold = TurnFold(NO_TURN, input_id)
        self.inbox = Inbox(bounds, self.snapshot)
        self.queued = False
        self.muters: set[str] = set()
        self.silenced = False
        self.spared = False
        self.reported = False
        self.implied = False
        self.over = False

    @property
    def turn_id(self) -> TurnId | None:
        """The server's name for it; None until the input is answered."""
        return self.fold.turn_id or None

    @property
    def ended(self) -> TurnEnded | None:
        """Its end, None while it runs."""
        return self.fold.ended

    @property
    def muted(self) -> bool:
        """Whether its output is kept from its consumers now."""
        return self.silenced or bool(self.muters)

    def snapshot(self) -> TurnSnapshot:
        """Return its whole state."""
        return TurnSnapshot(turn_id=self.fold.turn_id, state=self.fold.folded())

    def taken(self) -> Played | None:
        """Return what its consumer has taken, None when that says nothing about what was heard.

        Audio is taken long before it is played, and an application that reports for itself, or does
        not iterate the turn, knows better.
        """
        if self.reported or not self.inbox.taken_seq or any(lane.audio for lane in self.fold.lanes.values()):
            return None
        return Played(seq=self.inbox.taken_seq)
