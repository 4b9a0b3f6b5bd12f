"""Sentences and clauses of a text that is still coming."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_server.streams import clauses, sentences
from bargein_server.streams.text import Rules, end_of
from streaming import Source, no_accidents, read, run

SENTENCES = [
    ("en", "Dr. Smith paid $3.50 at 5 p.m. on Monday. |He left... |Then he came back! |Why?"),
    (
        "en",
        "“Really?” she asked. |“Yes!” |See https://a.b/c?d=e.f for more. |Mr. J. R. Tolkien, etc. |No way.",
    ),
    ("en", "Version 2.0 is out. |Get it, i.e. now.\n\n|New line\n|- item one\n|- item two"),
    (
        "en",
        "The U.S. Army left. |Is it No. 5? |So do I. |1. First. |2. Second. |Use foo.bar() and example.com.",
    ),
    ("en", "Wait… what? |Yahoo! is big. |(Really?) |Wow!!! |.NET and Node.js."),
    ("en", "hard-wrapped\ntext goes on. |Is it?! |It is “good.” |Then go."),
    ("de", "Das ist z.B. gut. |Am 3. Oktober kam Prof. Müller. |Er sagte: „Nein.“ |Dann ging er."),
    ("fr", "M. Dupont est là. |« Quoi ? » dit-il. |« Rien ! » |C'est tout !"),
    ("es", "¿Cómo está Ud.? |Muy bien. |El Sr. Pérez vino. |¡Hola! |¿Qué?"),
    ("it", "Il sig. Rossi è qui. |Va bene."),
    ("ru", "Это т.е. тест. |Г. Иванов пришёл. |Хорошо."),
    ("zh", "你好。|今天怎么样？|“很好！”|价格是3.5元。|然后走了……真的吗？！"),
    ("ja", "こんにちは。|「元気ですか？」|はい。"),
    ("ko", "안녕하세요. |반갑습니다. |네!"),
    ("hi", "यह है। |वह था।"),
    ("ar", "كيف حالك؟ |انا بخير."),
    ("xx", "An unknown language. |It has the general rules."),
]
CLAUSES = [
    (
        "en",
        "Well, I think so, |and so does he; |but 3,500 people: |they do not – |or so. |Yes. |At 12:30 sharp.",
    ),
    ("zh", "你好，|我是小王；|今天很好……|真的。"),
]


async def chunked(chunks: Iterable[str]) -> AsyncIterator[str]:
    for chunk in chunks:
        yield chunk


async def pieces(chunks: Iterable[str], **options: object) -> list[str]:
    return [piece async for piece in sentences(chunked(chunks), **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("language", "text"), SENTENCES)
async def test_sentences_end_where_a_reader_would_breathe(language: str, text: str) -> None:
    """Abbreviations, initials, numbers, URLs, ellipses, quotes and lists, in several languages."""
    assert await pieces(text.replace("|", ""), language=language) == text.split("|")


@pytest.mark.parametrize(("language", "text"), CLAUSES)
async def test_clauses_end_at_commas_and_dashes_too(language: str, text: str) -> None:
    """A clause that is too short goes on, a sentence never does."""
    source = chunked(text.replace("|", ""))
    short = 9 if language == "en" else 0
    assert [piece async for piece in clauses(source, language=language, min_chars=short)] == text.split("|")


@pytest.mark.parametrize(
    ("text", "after"),
    [("Hello there. How are you?", "Hello there. H"), ("你好。今天", "你好。今"), ("So! - x", "So! -")],
)
async def test_a_sentence_is_given_out_with_the_first_letter_after_it(text: str, after: str) -> None:
    """It waits for no more than tells it from an abbreviation."""
    rules = Rules()
    assert end_of(after, 0, rules) > 0
    assert end_of(after[:-1], 0, rules) == 0
    assert text.startswith(after)


words = st.sampled_from(
    [
        *(
            [
                "Dr",
                "Hello",
                "e.g",
                "U.S",
                "3",
                "14",
                "I",
                "am",
                "z.B",
                "好",
                "はい",
                "http://a.b/c?d",
                "é",
                "A",
                "a",
            ]
        ),
        *(
            [
                "“",
                "”",
                "«",
                "»",
                '"',
                "(",
                ")",
                "*",
                "-",
                "—",
                "–",
                "—a",
                ".",
                "..",
                "…",
                "。",
                "？",
                "，",
                "’",
                "😀",
            ]
        ),
        *([". ", "! ", "? ", ", ", "; ", ": ", " ", "  ", "\n", "\n\n", "\xa0"]),
    ]
)
texts = st.one_of(st.lists(words, max_size=40).map("".join), st.text(max_size=60))
rules = st.builds(
    Rules,
    language=st.sampled_from(["en", "de", "fr", "zh"]),
    max_chars=st.integers(1, 50),
    min_chars=st.none() | st.integers(0, 20),
)


def split(chunks: Iterable[str], rules: Rules) -> list[str]:
    """Return the pieces, as the operators make them."""
    found: list[str] = []
    left = ""
    for chunk in chunks:
        left += chunk
        while end := end_of(left, 0, rules):
            found.append(left[:end])
            left = left[end:]
    return [*found, left] if left else found


@settings(max_examples=400, deadline=None)
@given(texts, rules, st.lists(st.integers(0, 60), max_size=20))
def test_the_pieces_are_the_text_however_it_is_cut_into_chunks(
    text: str, rules: Rules, cuts: list[int]
) -> None:
    """Joined they are the text; none is empty or too long; they depend on the text alone."""
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    chunks = [text[begin:end] for begin, end in pairwise(places)]
    found = split(chunks, rules)
    assert "".join(found) == text
    assert all(0 < len(piece) <= rules.max_chars for piece in found)
    assert found == split(text, rules) == split([text], rules)


@settings(max_examples=200, deadline=None)
@given(texts, rules, texts)
def test_what_was_decided_is_not_taken_back(text: str, rules: Rules, more: str) -> None:
    """A boundary that was found stays where it is when the text goes on."""
    if end := end_of(text, 0, rules):
        assert end_of(text + more, 0, rules) == end
        assert end_of(more + text, len(more), rules) == len(more) + end


async def test_a_sentence_that_does_not_end_is_cut_at_a_comma_or_a_space() -> None:
    """The bound on characters is a bound on the wait."""
    text = "one two three, four five six seven eight nine ten"
    assert await pieces(text, max_chars=20) == ["one two three, ", "four five six seven ", "eight nine ten"]
    assert await pieces("x" * 25, max_chars=10) == ["x" * 10, "x" * 10, "x" * 5]
    with pytest.raises(ValueError, match="at least 1"):
        sentences(chunked(""), max_chars=0)


async def test_what_came_before_a_failure_is_given_out_before_it() -> None:
    """Half a sentence is a piece of the answer too."""
    source = Source("One. Two", fails=OSError("upstream"))
    got: list[str] = []
    _, error = await run(lambda: read(sentences(source.stream), got))
    assert isinstance(error, OSError)
    assert got == ["One. ", "Two"]


async def test_chunks_without_an_end_let_the_loop_run() -> None:
    """A source that never waits and ends no sentence does not keep an interrupt from being read."""
    source = Source(*[""] * 2000, pause=None)

    async def read_all() -> None:
        async for _ in sentences(source.stream):
            pass

    with no_accidents():
        points, _ = await run(read_all, cut=3)
    assert points == 3
    assert source.closed
    assert len(source.given) < 2000


async def test_one_long_chunk_is_split_in_linear_time() -> None:
    """A replayed answer of a megabyte comes in one chunk."""
    text = "This is a sentence. " * 50_000
    assert len(await pieces([text])) == 50_000
