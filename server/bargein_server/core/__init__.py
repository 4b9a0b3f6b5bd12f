"""Session as a plain object, without I/O, clock and asyncio. Internal.

Events and facts go in as method calls with the time as an argument; frames and commands come out.

`Session.commands()` drains the commands below; the host carries them out in order.
"""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import AudioFormat, Code, InputId, ToolDecision, ToolOutput, TurnId


class StartTurn(Struct, frozen=True):
    """Run the agent for this turn."""

    turn_id: TurnId


class CancelTurn(Struct, frozen=True):
    """Cancel the turn's task and close its model calls, in this step.

    The fence is closed. The host calls `Session.cleaned_up` when the task has ended or was abandoned.
    """

    turn_id: TurnId
    reason: str


class DeliverAnswer(Struct, frozen=True):
    """Hand a client's answer to the call of this turn that waits for it."""

    turn_id: TurnId
    answer: ToolOutput | ToolDecision


class CloseConnection(Struct, frozen=True):
    """Write the ready frames, then close the connection with this code."""

    code: Code


class Expire(Struct, frozen=True):
    """Forget the session: it was closed, or its client did not return."""


class StartListening(Struct, frozen=True):
    """Make a fresh ear for the session's input audio.

    Positions of sound are in samples of the audio clock (`floor.CLOCK_RATE`).

    Args:
        format: Format of the audio that follows.
        at: Position of its first sample.
        detect: Whether to send the probabilities of speech to `Listening.frames`.
    """

    format: AudioFormat
    at: int
    detect: bool


class StopListening(Struct, frozen=True):
    """Drop the session's ear; transcriptions that were asked for go on."""


class TakeAudio(Struct, frozen=True):
    """Input audio has arrived.

    Args:
        audio: The sound, in the format of `StartListening`.
        at: Position of its first sample.
    """

    audio: bytes
    at: int


class ReportFrames(Struct, frozen=True):
    """Send the results for all sound so far, also silence: a commit waits."""


class Transcribe(Struct, frozen=True):
    """Transcribe a part of the input audio.

    The host copies the sound in this step. It answers with `Listening.transcribed`, or `Listening.failed`
    after at most `recognition_s`, and may report the words so far to `Listening.partials` before. A partial
    request is answered with `Partials.answered` or `Partials.failed`.

    Args:
        request: Id of the request, unique in the session.
        utterance: Number of the utterance; a later one has a higher number.
        start: Position of its first sample; the prefix is included. Sound that was dropped is left out.
        end: Position after its last sample.
        quick: Whether only the kind of the words counts: the user may be coughing, or agreeing.
        partial: Whether the speech goes on, and only the words so far are wanted, if there is time.
    """

    request: int
    utterance: int
    start: int
    end: int
    quick: bool
    partial: bool = False


class Judge(Struct, frozen=True):
    """Judge whether an utterance is complete; see `Listening.judged`."""

    request: int
    utterance: int
    start: int
    end: int


class SpokenInput(Struct, frozen=True):
    """An utterance became an input; a listening agent gets its sound."""

    input_id: InputId
    utterance: int


class CancelRecognition(Struct, frozen=True):
    """The answer to a `Transcribe` or a `Judge` is not needed any more."""

    request: int


Recognition = (
    StartListening
    | StopListening
    | TakeAudio
    | ReportFrames
    | Transcribe
    | Judge
    | SpokenInput
    | CancelRecognition
)
"""Commands for the session's ear."""

Command = StartTurn | CancelTurn | DeliverAnswer | CloseConnection | Expire | Recognition
