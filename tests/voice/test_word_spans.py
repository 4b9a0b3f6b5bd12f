"""Sound is cut at words: nothing is lost, and each word is in the span in which it ends."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from bargein_server.voice.word_spans import WordCutter, WordSpan

RATE = 1000  # a sample a millisecond


def tone(ms: int) -> bytes:
    """Return sound that is not silent."""
    return array("h", [9000] * ms).tobytes()


def silence(ms: int) -> bytes:
    """Return silence."""
    return bytes(2 * ms)


def spans_of(cutter: WordCutter, *pieces: tuple[bytes, list[tuple[int, int]]]) -> list[tuple[int, str]]:
    """Return the duration and the text of all spans."""
    spans: list[WordSpan] = []
    for pcm, words in pieces:
        spans += cutter.add(pcm, words)
    spans += cutter.finish()
    return [(len(span.pcm) // 2, span.text) for span in spans]


def test_words_with_times_are_cut_where_the_next_begins() -> None:
    """White space stands before its word, and silence at the end is no part of the last word."""
    cutter = WordCutter("So it goes. ", RATE, word_times=True)
    found = spans_of(cutter, (tone(400), [(0, 20), (3, 150), (6, 300)]), (tone(200) + silence(300), []))
    assert found == [(150, "So"), (150, " it"), (300, " goes."), (300, "")]
    assert cutter.rest == " "


def test_a_word_is_given_out_when_its_end_is_known() -> None:
    """Not before the next begins: it may be longer."""
    cutter = WordCutter("So it goes.", RATE, word_times=True)
    assert list(cutter.add(tone(140), [(0, 0), (3, 150)])) == []
    assert [span.text for span in cutter.add(tone(20))] == ["So"]
    assert cutter.given_ms == 150


def test_words_joined_in_speech_are_one_span() -> None:
    """The synthesiser reports one time for both."""
    cutter = WordCutter("out of the box", RATE, word_times=True)
    found = spans_of(cutter, (tone(500), [(0, 0), (4, 100), (11, 300)]))
    assert found == [(100, "out"), (200, " of the"), (200, " box")]


def test_odd_reports_do_no_harm() -> None:
    """Positions outside of the text, twice, or backwards; times backwards, or after the end."""
    words = [(-1, 0), (0, 0), (0, 10), (3, 90), (1, 95), (6, 80), (99, 90)]
    found = spans_of(WordCutter("So it goes", RATE, word_times=True), (tone(100), words))
    assert "".join(text for _, text in found) == "So it goes"
    assert sum(ms for ms, _ in found) == 100
    late = spans_of(WordCutter("So it", RATE, word_times=True), (tone(100), [(0, 0), (3, 5000)]))
    assert late == [(100, "So it")]


def test_without_times_words_are_estimated_and_the_rest_is_spread() -> None:
    """Speech slower than the estimate ends in the last words, not after them."""
    cutter = WordCutter("aaa bbb ccc", RATE, word_times=False, ms_per_char=50)
    found = spans_of(cutter, (tone(300), []), (tone(300), []))
    assert found == [(200, "aaa"), (200, " bbb"), (200, " ccc")]
    fast = spans_of(WordCutter("aaa bbb ccc", RATE, word_times=False, ms_per_char=500), (tone(110), []))
    assert fast == [(40, "aaa"), (40, " bbb"), (30, " ccc")]


def test_a_long_word_is_cut_into_seconds() -> None:
    """Its text comes with its end, so an interrupt does not count it before."""
    cutter = WordCutter("Aaaaah", RATE, word_times=True)
    found = spans_of(cutter, (tone(5500), [(0, 0)]))
    assert [text for _, text in found] == ["", "", "", "", "Aaaaah"]
    assert sum(ms for ms, _ in found) == 5500


def test_a_text_without_sound_is_not_lost() -> None:
    """A voice may have no sound for signs."""
    assert spans_of(WordCutter("🙂 ", RATE, word_times=True)) == [(0, "🙂")]


@given(
    st.text(alphabet="ab .\n", min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(-2, 35), st.integers(0, 900)), max_size=8),
    st.lists(st.integers(0, 400), max_size=6),
    st.booleans(),
)
def test_no_sample_and_no_character_is_lost(
    text: str, words: list[tuple[int, int]], pieces: list[int], word_times: bool
) -> None:
    """Whatever the synthesiser reports."""
    cutter = WordCutter(text, RATE, word_times=word_times, ms_per_char=40)
    found = spans_of(cutter, (b"", words), *((tone(ms), []) for ms in pieces))
    assert sum(ms for ms, _ in found) == sum(pieces)
    assert "".join(part for _, part in found) + cutter.rest == text
    assert not cutter.rest.strip()
