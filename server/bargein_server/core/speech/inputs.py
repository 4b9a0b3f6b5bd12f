"""Inputs that a user's utterances become."""

from __future__ import annotations

from bargein_protocol import InputId, InputText, OnBusy, TranscriptDone
from bargein_protocol.errors import NO_SPEECH
from bargein_protocol.types import MAX_INPUT_CHARS

from .. import SpokenInput
from ..requests import Requests
from ..sequencer import Sequencer
from ..turn_scheduler import TurnScheduler
from .floor import Rules
from .recognitions import Utterance
from .words import Transcript, is_backchannel, is_speech


class SpokenInputs:
    """Asks for turns with utterances that are over and transcribed."""

    __slots__ = ("_requests", "_sequencer", "_turns")

    def __init__(self, sequencer: Sequencer, requests: Requests, turns: TurnScheduler) -> None:
        self._sequencer = sequencer
        self._requests = requests
        self._turns = turns

    def conclude(self, utterance: Utterance, rules: Rules) -> None:
        """Number the transcript of an utterance, and ask for a turn with it.

        A cough asks for none, and neither do words that only agree with the turn that they overlap.
        """
        transcript, input_id = utterance.transcript or Transcript(), utterance.input_id
        text = transcript.text.strip()[:MAX_INPUT_CHARS]
        if not is_speech(transcript):
            if input_id is not None:
                self._requests.reject(input_id, NO_SPEECH)
            return
        if input_id is None:
            is_agreement = utterance.turn is not None and is_backchannel(transcript, rules.language)
            if is_agreement or not rules.create_turn:
                self._sequencer.number(TranscriptDone(text=text))
                return
            input_id = InputId(f"v_{self._sequencer.top}")  # numbers are unique in the session
        self._sequencer.number(TranscriptDone(text=text, input_id=input_id))
        on_busy: OnBusy = "interrupt" if rules.interrupt else "queue"
        self._turns.commands.append(SpokenInput(input_id, utterance.number))
        self._requests.ask(InputText(id=input_id, text=text, on_busy=on_busy))
