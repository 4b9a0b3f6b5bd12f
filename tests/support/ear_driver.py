"""A conversation with the core by speech: sound is a list of probabilities, a frame of 32 ms each.

talk = Spoken()
talk.hear(LOUD * 20)                 # the user speaks for 640 ms
talk.understand("stop")              # the recogniser's answer to the newest request
assert talk.types() == [...]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from bargein_protocol import (
    AudioDelta,
    AudioFormat,
    InputAudio,
    InputCommit,
    InputId,
    SessionAudio,
    Token,
    TurnDetection,
    TurnId,
)
from bargein_server.core import CancelRecognition, Judge, Transcribe
from bargein_server.core.speech.floor import FRAME_SAMPLES, Frame
from bargein_server.core.speech.listening import Listening
from bargein_server.core.speech.negotiation import AudioSupport
from bargein_server.core.speech.words import Transcript
from core_driver import SOUND, Talk

R = TypeVar("R", Transcribe, Judge)

LOUD, QUIET = [0.8], [0.0]
FRAME_S = FRAME_SAMPLES / 16_000
PIECE = bytes(2 * FRAME_SAMPLES)
INPUT = AudioFormat(rate=16_000)


class Spoken(Talk):
    """See the module.

    Args:
        judges: Whether the server has a judge.
        detection: What the client asks for.
        settings: The server's settings.
    """

    def __init__(self, *, judges: bool = False, support: AudioSupport | None = None, **fields: Any) -> None:
        given = {name: fields.pop(name) for name in TurnDetection.__struct_fields__ if name in fields}
        language, detection = fields.pop("language", None), TurnDetection(**given)
        self.asked = SessionAudio(
            input=INPUT, output=SOUND.output, turn_detection=detection, language=language
        )
        self.support = support or AudioSupport(hears=True, judges=judges)
        super().__init__(**fields)

    def begin(self) -> None:
        self.attach(audio=self.asked)

    def come_back(self) -> Token:
        """Resume with every frame that came."""
        return self.attach(max(getattr(event, "seq", 0) for event in self.events), audio=self.asked)

    @property
    def ear(self) -> Listening:
        """The session's ear."""
        ear = self.session.audio.listening
        assert ear is not None
        return ear

    def hear(self, probabilities: Sequence[float]) -> None:
        """Let the microphone send frames, and the detector find these probabilities."""
        for probability in probabilities:
            self.wait(FRAME_S)
            self.send(InputAudio(audio=PIECE))
            self.detect(probability)

    def detect(self, probability: float) -> None:
        """Let the detector answer for the newest frame."""
        self.ear.frames([Frame(self.ear.clock.position, probability)], self.now)
        self.flush()

    def commit(self, id: str = "c1") -> None:
        """Send a commit."""
        self.send(InputCommit(id=InputId(id)))

    def asked_for(self, kind: type[R]) -> list[R]:
        """Return the requests of a kind that are not cancelled, oldest first."""
        cancelled = {command.request for command in self.commands if isinstance(command, CancelRecognition)}
        wanted = [command for command in self.commands if isinstance(command, kind)]
        return [command for command in wanted if command.request not in cancelled]

    def understand(self, text: str, no_speech: float = 0.0, quick: bool | None = None) -> None:
        """Answer the newest request, of a kind or any, with words."""
        requests = [r for r in self.asked_for(Transcribe) if quick is None or r.quick is quick]
        self.ear.transcribed(requests[-1], Transcript(text, no_speech), self.now)
        self.flush()

    def fail(self) -> None:
        """Let the recogniser fail."""
        self.ear.failed(self.asked_for(Transcribe)[-1], self.now)
        self.flush()

    def judge(self, complete: float) -> None:
        """Let the judge answer."""
        self.ear.judged(self.asked_for(Judge)[-1], complete, self.now)
        self.flush()

    def speaking_turn(self) -> TurnId:
        """Return a turn that has begun to speak."""
        turn = self.ask()
        self.sound(turn, 0)
        return turn

    def sound(self, turn: TurnId, number: int) -> bool:
        """Let the agent speak one word of 100 ms."""
        text = f"word{number} "
        return self.emit(turn, AudioDelta(audio=b"\0\0", start_ms=100 * number, duration_ms=100, text=text))
