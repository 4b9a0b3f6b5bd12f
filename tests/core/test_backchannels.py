"""Agreement in many languages: what lets an agent go on, and what never does."""

from __future__ import annotations

import pytest

from bargein_protocol import TurnEnded
from bargein_server.core.speech.backchannels import _ENTRIES, LANGUAGES, is_agreement
from bargein_server.core.speech.words import Transcript, is_backchannel, is_speech
from ear_driver import LOUD, QUIET, Spoken

AGREEMENT = [
    ("en", "Okay."), ("en", "Yeah, yeah."), ("en", "Mm-hmm."), ("en", "Uh-huh, I see."),
    ("en", "All right!"), ("de", "Ja, genau."), ("de", "Alles klar."), ("de", "Ach so, verstehe."),
    ("de", "SCHÖN"), ("de-AT", "Jo."), ("fr", "D'accord, oui."), ("fr", "Ça marche."), ("fr", "C’est ça."),
    ("fr", "Tout à fait."), ("es", "Sí, sí, claro."), ("es", "¡De acuerdo!"), ("es_MX", "Órale"),
    ("it", "Sì, va bene."), ("it", "Ho capito."), ("it", "D'accordo"), ("pt-BR", "Tá bom, entendi."),
    ("pt", "Pois é."), ("nl", "Ja, dat klopt."), ("nl", "Oké, prima."), ("sv", "Just det."),
    ("pl", "Tak, rozumiem."), ("tr", "Tamam, anladım."), ("ru", "Да, понятно."), ("ru", "Угу."),
    ("uk", "Так, звісно."), ("ja", "はい、そうですね。"), ("ja", "なるほど"), ("ja", "うん うん"),
    ("zh", "嗯，好的。"), ("zh-TW", "對對，沒錯"), ("ko", "네, 맞아요."), ("hi", "हाँ, ठीक है।"),
    ("hi", "जी हाँ"), ("ar", "نعم، تمام."), ("ar", "أيوه"), ("xx", "Okay."),
]  # fmt: skip

WORDS = [
    ("en", "No."), ("en", "Stop."), ("en", "Wait, okay."), ("en", "okay okay okay okay"),
    ("en", "Right now"), ("de", "Nein."), ("de", "Stopp."), ("de", "Ja, aber warte."), ("fr", "Non."),
    ("fr", "Attends."), ("es", "No."), ("es", "Ya."), ("es", "Espera."), ("it", "No."), ("it", "Aspetta."),
    ("pt", "Não."), ("pt", "Espera."), ("nl", "Nee."), ("nl", "Wacht even."), ("sv", "Nej."),
    ("pl", "Nie."), ("pl", "No."), ("tr", "Hayır."), ("tr", "Dur."), ("ru", "Нет."), ("ru", "Стой."),
    ("uk", "Ні."), ("ja", "いいえ"), ("ja", "ちょっと待って"), ("ja", "はい、でもちょっと"), ("zh", "不"),
    ("zh", "等一下"), ("zh", "好的，等一下"), ("ko", "아니요"), ("ko", "잠깐만"), ("hi", "नहीं"),
    ("hi", "रुको"), ("ar", "لا"), ("ar", "توقف"), ("en", "Ja, genau."), ("ja", ""), ("en", "…"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "text"), AGREEMENT)
def test_agreement_in_its_language(language: str, text: str) -> None:
    """Case, accents, punctuation, regions and scripts without spaces."""
    assert is_agreement(text, language)
    assert is_speech(Transcript(text))


@pytest.mark.parametrize(("language", "text"), WORDS)
def test_words_for_the_agent(language: str, text: str) -> None:
    """A refusal, a stop, words after agreement, another language's agreement, nothing."""
    assert not is_agreement(text, language)


def test_a_recognised_language_counts_before_the_session_s() -> None:
    """A user may change the language within a session."""
    assert is_backchannel(Transcript("Ja, genau.", language="de"), "en")
    assert not is_backchannel(Transcript("Ja, genau."), "en")
    assert is_backchannel(Transcript("Okay."))


def test_every_entry_is_agreement() -> None:
    """No entry is lost by the form in which texts are compared."""
    assert set(LANGUAGES) >= {"ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "zh"}
    for language, entries in _ENTRIES.items():
        for entry in entries.split(","):
            assert is_agreement(entry, language), (language, entry)


def test_a_long_text_is_read_quickly() -> None:
    """The time is linear: 100,000 repetitions are refused at once."""
    assert not is_agreement("うん" * 100_000, "ja")
    assert not is_agreement("oh " * 100_000, "en")


@pytest.mark.parametrize(("language", "resumed"), [("de", True), (None, False)])
def test_the_session_s_language_decides(language: str | None, resumed: bool) -> None:
    """In a German session "genau" lets the turn go on; in an English one it ends it."""
    talk = Spoken(language=language)
    turn = talk.speaking_turn()
    talk.hear(LOUD * 15 + QUIET * 4)
    talk.understand("Genau.", quick=True)
    assert ("turn.resumed" in talk.types()) is resumed
    assert any(ended.turn_id == turn for ended in talk.of(TurnEnded)) is not resumed
    granted = talk.opened().audio
    assert granted is not None
    assert granted.language == language
