"""Limits of speech, at them and one frame past them; the clock is that of the sound."""

from __future__ import annotations

from bargein_protocol import TurnDetection
from bargein_server.core.speech.floor import FRAME_SAMPLES, SAMPLES_PER_MS, Decision, Floor, rules_of
from bargein_server.settings import Settings

FRAME_S = FRAME_SAMPLES / SAMPLES_PER_MS / 1000
LOUD, LIKELY, QUIET = [0.9], [0.7], [0.0]


def heard(frames: list[float], **settings: float) -> list[tuple[int, Decision]]:
    """Return the decisions about frames, each with the number of its frame; no turn sounds."""
    floor = Floor(rules_of(Settings(**settings), TurnDetection()))  # type: ignore[arg-type]
    decisions = []
    for number, probability in enumerate(frames, 1):
        for fact in floor.frame(number * FRAME_SAMPLES, probability, lambda: True, lambda *_: False):
            decisions += [(number, decision) for decision in floor.decide(fact)]
    return decisions


def frames_until(decision: Decision, frames: list[float], **settings: float) -> int | None:
    """Return the number of the frame of the first decision of a kind, None without one."""
    return next((number for number, decided in heard(frames, **settings) if decided is decision), None)


def test_speech_start_s() -> None:
    """So much likely speech is a start, and a frame less is none."""
    for frames in (2, 5):
        start = frames * FRAME_S
        assert frames_until(Decision.START, LIKELY * frames, speech_start_s=start) == frames
        assert frames_until(Decision.START, LIKELY * (frames - 1), speech_start_s=start) is None


def test_speech_sure_s() -> None:
    """From so much speech on, the turn ends whatever was understood."""
    first = frames_until(Decision.END, LOUD * 60, speech_sure_s=20 * FRAME_S)
    later = frames_until(Decision.END, LOUD * 60, speech_sure_s=40 * FRAME_S)
    assert first is not None
    assert later == first + 20
    assert frames_until(Decision.END, LOUD * (first - 1), speech_sure_s=20 * FRAME_S) is None


def test_speech_silence_s_and_speech_judge_s() -> None:
    """So much silence begins the transcript, and more of it ends the speech."""
    frames = LOUD * 10 + QUIET * 40
    limits = {"speech_judge_s": 5 * FRAME_S, "speech_silence_s": 20 * FRAME_S}
    assert frames_until(Decision.TRANSCRIBE, frames, **limits) == 15
    assert frames_until(Decision.STOPPED, frames, **limits) == 30
    assert frames_until(Decision.STOPPED, frames[:29], **limits) is None


def test_speech_prefix_s() -> None:
    """The rules have it in samples."""
    rules = rules_of(Settings(speech_prefix_s=0.25), TurnDetection())
    assert rules.prefix == 250 * SAMPLES_PER_MS


def test_utterance_s() -> None:
    """Speech of so much is cut and asked for, and speech of a frame less is not."""
    cut = frames_until(Decision.COMMIT, LOUD * 200, utterance_s=100 * FRAME_S)
    assert cut is not None
    assert abs(cut - 100) <= 1
    assert frames_until(Decision.COMMIT, LOUD * (cut - 1), utterance_s=100 * FRAME_S) is None
