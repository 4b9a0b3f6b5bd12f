"""A string that is shown while the JSON around it is still being written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_server.agents.string_field import StringField

plain = st.none() | st.booleans() | st.integers() | st.text()
values = (
    plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(max_size=5), st.lists(plain, max_size=2))
)


@given(
    fields=st.dictionaries(st.text(max_size=6), values, max_size=3),
    answer=st.text(),
    ascii_only=st.booleans(),
    cuts=st.lists(st.integers(1, 7), min_size=1),
    first=st.booleans(),
)
def test_it_reads_what_a_parser_reads(
    fields: dict[str, object], answer: str, ascii_only: bool, cuts: list[int], first: bool
) -> None:
    """Whatever stands beside it, however it is escaped, wherever the pieces are cut."""
    fields.pop("answer", None)
    whole = {"answer": answer, **fields} if first else {**fields, "answer": answer}
    text = json.dumps(whole, ensure_ascii=ascii_only)
    field, said, position, n = StringField("answer"), "", 0, 0
    while position < len(text):
        said += field.feed(text[position : position + cuts[n % len(cuts)]])
        position += cuts[n % len(cuts)]
        n += 1
    assert (said, field.complete) == (answer, True)


def test_it_says_as_soon_as_it_can() -> None:
    """Each piece is said when it comes; half an escape waits for its other half."""
    field = StringField("answer")
    pieces = ['{"ans', 'wer" : "He', "llo", "\\", "n\\u00", "e4", '"', ', "more": "x"}']
    assert [field.feed(piece) for piece in pieces] == ["", "He", "llo", "", "\n", "ä", "", ""]


@pytest.mark.parametrize(
    "text",
    ['["answer", "x"]', '{"a": {"answer": "x"}}', '{"answer": 1}', '{"answer": {"answer": "x"}}', "answer"],
)
def test_what_is_no_string_field_says_nothing(text: str) -> None:
    """A field within another one, or of another type, is not it."""
    field = StringField("answer")
    assert (field.feed(text), field.complete) == ("", False)


@pytest.mark.parametrize(
    ("written", "said"),
    [("\\ud83d\\ude00", "😀"), ("\\ud83dx", "\ufffdx"), ("\\ude00", "\ufffd"), ("\\uzzzz", "\ufffd"),
     ("\\ud83d\\n", "\ufffd\n"), ("\\ud83d\\ud83d\\ude00", "\ufffd😀")],
)  # fmt: skip
def test_surrogates(written: str, said: str) -> None:
    """Pairs become their character, halves the replacement character, in one piece or in many."""
    text = '{"answer":"' + written + '"}'
    whole, single = StringField("answer"), StringField("answer")
    assert whole.feed(text) == said
    assert "".join(map(single.feed, text)) == said
