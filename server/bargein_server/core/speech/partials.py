"""Words of the user's speech before its transcript is complete."""

from __future__ import annotations

from bargein_protocol import TranscriptDelta

from .. import Command, Transcribe
from ..output_pump import OutputPump
from ..sequencer import Sequencer
from ..turn_scheduler import TurnScheduler
from .floor import SAMPLES_PER_MS, Floor, State
from .recognitions import Recognitions, Utterance

LONGEST = 28_000 * SAMPLES_PER_MS
"""Sound of an utterance up to which its words are asked for; recognisers read 30 s."""
_ASKING = (State.SPEAKING, State.LEFT)
"""States in which no turn waits for a verdict, so a partial transcript delays none."""


class Partials:
    """Partial transcripts of one session.

    The host calls `answered` and `failed` through `SessionHost.act`.

    Attributes:
        every: Speech between two requests, in samples; 0 for none.
    """

    def __init__(
        self, sequencer: Sequencer, turns: TurnScheduler, output: OutputPump, recognitions: Recognitions
    ) -> None:
        self.every = 0
        self._sequencer = sequencer
        self._turns = turns
        self._output = output
        self._recognitions = recognitions

    def due(self, utterance: Utterance | None, floor: Floor) -> list[Command]:
        """Return the request for the words so far, if due: one at a time."""
        if not self.every or utterance is None or floor.state not in _ASKING:
            return []
        if floor.voiced - utterance.partial_at < self.every or floor.position - utterance.start > LONGEST:
            return []
        if self._recognitions.has_partial(utterance):
            return []
        utterance.partial_at = floor.voiced
        return [self._recognitions.partial(utterance, floor.position)]

    def answered(self, request: Transcribe, text: str, now: float) -> None:
        """Take the words so far of a request, or of one that a transcript follows.

        Words that were sent stay as they are: a text that does not begin with them is ignored.
        """
        utterance = self._recognitions.asked_by(request)
        if utterance is None or request.quick:
            return
        if request.partial:
            self._recognitions.transcribed(request)
        if len(text) <= len(utterance.shown) or not text.startswith(utterance.shown):
            return
        self._turns.now = now
        self._sequencer.settle()
        piece, utterance.shown = text[len(utterance.shown) :], text
        self._sequencer.number(TranscriptDelta(text=piece))
        if not self._sequencer.attached:
            self._output.drain_to_log()

    def failed(self, request: Transcribe, now: float) -> None:
        """Record that a request for the words so far has failed."""
        self._recognitions.transcribed(request)
