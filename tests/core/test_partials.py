"""Words of speech that goes on: when they are asked for, and what the client gets."""

from __future__ import annotations

from typing import Any

from bargein_protocol import TranscriptDelta, TranscriptDone
from bargein_server.core import CancelRecognition, Transcribe
from bargein_server.core.speech.negotiation import AudioSupport
from ear_driver import LOUD, QUIET, Spoken

EVERY = 22
"""Frames of 32 ms after which the words so far are asked for: 0.7 s."""


def talk_with(partials: bool = True, **fields: Any) -> Spoken:
    """Return a conversation with a recogniser that gives words early."""
    return Spoken(support=AudioSupport(hears=True, partials=partials), **fields)


def partials(talk: Spoken) -> list[Transcribe]:
    """Return the requests for the words so far that are not cancelled."""
    return [request for request in talk.asked_for(Transcribe) if request.partial]


def answer(talk: Spoken, request: Transcribe, text: str) -> None:
    """Answer a request with the words so far."""
    talk.ear.partials.answered(request, text, talk.now)
    talk.flush()


def pieces(talk: Spoken) -> list[str]:
    """Return the pieces that the client has got."""
    return [piece.text for piece in talk.of(TranscriptDelta)]


def test_the_words_so_far_are_asked_for_while_the_user_speaks() -> None:
    """One request at a time, of the whole utterance."""
    talk = talk_with()
    talk.hear(LOUD * (EVERY - 1))
    assert partials(talk) == []
    talk.hear(LOUD * 2 * EVERY)
    [first] = partials(talk)
    answer(talk, first, "Why are")
    talk.hear(LOUD)
    second = partials(talk)[-1]
    assert (second.start, second.utterance) == (first.start, first.utterance)
    assert second.end > first.end
    answer(talk, second, "Why are you")
    answer(talk, second, "Why are you here")
    assert pieces(talk) == ["Why are", " you"]


def test_words_are_not_taken_back() -> None:
    """A text that does not begin with what was sent is ignored; the transcript is complete in any case."""
    talk = talk_with()
    talk.hear(LOUD * 2 * EVERY)
    answer(talk, partials(talk)[-1], "Why")
    talk.hear(LOUD * EVERY)
    answer(talk, partials(talk)[-1], "Who are")
    talk.hear(QUIET * 20)
    talk.understand("Who are you?")
    assert pieces(talk) == ["Why"]
    assert [done.text for done in talk.of(TranscriptDone)] == ["Who are you?"]


def test_a_verdict_does_not_wait_for_them() -> None:
    """While a held turn waits for its words, nothing else is asked of the recogniser."""
    talk = talk_with()
    talk.speaking_turn()
    talk.hear(LOUD * (EVERY + 4))
    assert partials(talk) == []
    talk.understand("stop it", quick=True)
    talk.hear(LOUD)
    assert len(partials(talk)) == 1


def test_a_pause_ends_a_request() -> None:
    """The transcript is asked for; a late answer to the other is nothing."""
    talk = talk_with()
    talk.hear(LOUD * 2 * EVERY)
    [request] = partials(talk)
    talk.hear(QUIET * 7)
    assert CancelRecognition(request.request) in talk.commands
    answer(talk, request, "late")
    assert pieces(talk) == []


def test_a_request_without_an_answer_is_followed_by_another() -> None:
    """No error, because the transcript comes anyway."""
    talk = talk_with()
    talk.hear(LOUD * 2 * EVERY)
    talk.ear.partials.failed(partials(talk)[-1], talk.now)
    talk.hear(LOUD)
    assert len(partials(talk)) == 2
    assert "error" not in talk.types()


def test_pieces_of_the_transcript_itself() -> None:
    """A recogniser that streams reports them in the pause; they go on where the others ended."""
    talk = talk_with()
    talk.hear(LOUD * 2 * EVERY)
    answer(talk, partials(talk)[-1], "Why are")
    talk.hear(QUIET * 7)
    request = talk.asked_for(Transcribe)[-1]
    assert not request.partial
    answer(talk, request, "Why")
    answer(talk, request, "Why are you")
    talk.understand("Why are you here?")
    answer(talk, request, "Why are you here?")
    assert pieces(talk) == ["Why are", " you"]


def test_speech_partial_s() -> None:
    """After so much speech the words are asked for, and not a frame before."""
    for frames in (10, 20):
        talk = talk_with(speech_partial_s=frames * 0.032)
        talk.hear(LOUD * (frames - 1))
        assert partials(talk) == []
        talk.hear(LOUD)
        assert len(partials(talk)) == 1


def test_servers_and_settings_without_them() -> None:
    """A recogniser that cannot, and 0 seconds."""
    for talk in (talk_with(partials=False), talk_with(speech_partial_s=0.0)):
        talk.hear(LOUD * 3 * EVERY)
        assert partials(talk) == []


def test_a_long_utterance_is_not_read_again_and_again() -> None:
    """Recognisers read 30 s; what they cannot read whole, they are not asked for."""
    talk = talk_with()
    for _ in range(60):
        talk.hear(LOUD * EVERY)
        if open_requests := partials(talk):
            talk.ear.partials.failed(open_requests[-1], talk.now)
    longest = max(request.end - request.start for request in partials(talk))
    assert 27 * 16_000 < longest <= 28 * 16_000
