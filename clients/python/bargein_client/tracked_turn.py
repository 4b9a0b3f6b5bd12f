"""State that the client keeps of one turn."""

from __future__ import annotations

from enum import Enum

from bargein_protocol import NO_TURN, InputId, Played, TurnEnded, TurnFold, TurnId, TurnStatus

from .delivery import Delivery, Signal, transition
from .events import TurnSnapshot
from .inbox import Bounds, Inbox


class PlaybackReporter(Enum):
    """Origin of the reports on how much of a turn the user received."""

    NONE = "none"
    """No report yet."""
    CLIENT = "client"
    """The core reported the events that the consumer took, in an interrupt."""
    APPLICATION = "application"
    """The application reports for itself; the core does not add to that."""


class TrackedTurn:
    """One turn, from the moment its input is given to the core.

    Args:
        input_id: The input; None for a turn that this client did not ask for.
        bounds: Capacity of the inbox.
        input_text: Text of the input; None when this client does not have it.

    Attributes:
        input_id: As given.
        input_text: As given.
        fold: All events of the turn, folded; includes output that was never delivered.
        inbox: Events that the consumer has not taken yet.
        queued: Whether the turn waits behind another one.
        delivery: Whether output reaches the consumers.
        reporter: Origin of the playback reports.
    """

    __slots__ = ("delivery", "fold", "inbox", "input_id", "input_text", "queued", "reporter")

    def __init__(self, input_id: InputId | None, bounds: Bounds, input_text: str | None = None) -> None:
        self.input_id = input_id
        self.input_text = input_text
        self.fold = TurnFold(NO_TURN, input_id)
        self.inbox = Inbox(bounds, self.snapshot)
        self.queued = False
        self.delivery = Delivery.DELIVERED
        self.reporter = PlaybackReporter.NONE

    @property
    def turn_id(self) -> TurnId | None:
        """Id given by the server; None until the input is answered."""
        return self.fold.turn_id or None

    @property
    def text(self) -> str:
        """Text of the main lane so far."""
        return str(self.fold.main_lane.text)

    @property
    def ended(self) -> TurnEnded | None:
        """The `turn.ended` event; None while the turn runs."""
        return self.fold.ended

    @property
    def over(self) -> bool:
        """Whether the turn ended or its input was refused."""
        return self.delivery is Delivery.ENDED

    def signal(self, signal: Signal) -> None:
        """Change the delivery state."""
        self.delivery = transition(self.delivery, signal)

    def snapshot(self) -> TurnSnapshot:
        """Return the whole state of the turn."""
        return TurnSnapshot(turn_id=self.fold.turn_id, state=self.fold.folded())

    def taken(self) -> Played | None:
        """Return how much the consumer has taken; None if that is no measure.

        Audio is taken long before it is played. An application that sends its own reports, or does not
        iterate the turn, has better information.
        """
        if self.reporter is PlaybackReporter.APPLICATION or not self.inbox.taken_seq:
            return None
        if any(lane.audio for lane in self.fold.lanes.values()):
            return None
        return Played(seq=self.inbox.taken_seq)

    def implied_playback(self) -> Played | None:
        """Return the core's report with a request to end the turn, if any."""
        played = self.taken()
        if played is not None:
            self.reporter = PlaybackReporter.CLIENT
        return played

    def final_playback(self, status: TurnStatus) -> Played | None:
        """Return the core's report at the end of the turn; None for no report.

        The report corrects the one of an interrupt after which the turn went on.
        """
        if self.reporter is not PlaybackReporter.CLIENT or not self.delivery.is_delivered:
            return None
        whole = self.delivery is Delivery.PROTECTED or status != "interrupted"
        return Played(seq=self.fold.last_output_seq if whole else self.inbox.taken_seq)
