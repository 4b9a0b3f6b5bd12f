"""Text that grows, against a list of pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden_vectors as wire
from bargein_protocol import NO_SEQ, IndexedText, Seq


@wire.QUICK
@given(
    pieces=st.lists(st.text(max_size=4), max_size=12),
    times=st.integers(1, 15),
    room=st.integers(0, 24) | st.integers(0, 400),
    steps=st.integers(1, 3),
    looked=st.integers(1, 200),
)
def test_growing_text_is_like_a_list_of_pieces(
    pieces: list[str], times: int, room: int, steps: int, looked: int
) -> None:
    """It knows which event brought which character, as a list of all pieces would."""
    text = IndexedText(max_chars=room)
    ends: list[tuple[int, int]] = []
    kept: dict[int, str] = {}
    whole, seq = "", 0
    for index, piece in enumerate(pieces * times):
        seq += steps if index % 5 == 0 else 1
        fits = len(whole) + len(piece) <= room
        assert text.append(piece, seq) is fits
        if piece[: room - len(whole)] or not piece:
            whole += piece[: room - len(whole)]
            kept[seq] = whole[ends[-1][1] if ends else 0 :]
            ends.append((seq, len(whole)))
        if index % looked == 0:
            assert str(text) == whole  # reading in between changes nothing
    for number in range(-1, seq + 2):
        assert text.chars_at(number) == max((end for s, end in ends if s <= number), default=0)
        if number in kept:
            assert text.piece(number) == kept[number]
        else:
            with pytest.raises(KeyError):
                text.piece(number)
    assert str(text) == whole
    assert text.length == len(whole)
    for chars in range(room + 2):
        seq = text.seq_at(chars)
        assert seq == max((s for s, end in ends if end <= chars), default=0)
        assert text.chars_at(seq) <= chars


@wire.QUICK
@given(
    runs=st.lists(st.tuples(st.lists(st.text("ab", max_size=3), max_size=90), st.integers(1, 3)), max_size=6),
    room=st.integers(0, 300),
)
def test_growing_text_grows_by_many_pieces_as_by_one(runs: list[tuple[list[str], int]], room: int) -> None:
    """Or by none of them, when there is no room for all."""
    many, single, seq = IndexedText(max_chars=room), IndexedText(max_chars=room), 0
    for pieces, step in runs:
        first = seq + step
        fits = single.length + sum(map(len, pieces)) <= room
        text, more = many.parts
        assert "".join((text, *more)) == str(single)
        assert many.extend(pieces, first) is fits
        if fits:
            for seq, piece in enumerate(pieces, first):
                single.append(piece, seq)
            if step == 2:
                assert str(many) == str(single)  # reading in between changes nothing
    assert (str(many), many.length) == (str(single), single.length)
    for number in range(seq + 2):
        assert many.chars_at(number) == single.chars_at(number)
    for chars in range(room + 1):
        assert many.seq_at(chars) == single.seq_at(chars)


def test_growing_text_begins_with_what_it_is_given() -> None:
    """A snapshot's text counts as having come with one event."""
    text = IndexedText.of("abc", Seq(7))
    text.append("d", 9)
    assert str(text) == "abcd"
    assert (text.chars_at(6), text.chars_at(7), text.chars_at(8), text.chars_at(9)) == (0, 3, 3, 4)
    assert (text.seq_at(2), text.seq_at(3), text.seq_at(4)) == (NO_SEQ, 7, 9)


def test_long_text_is_packed_and_still_knows_its_pieces() -> None:
    """Hundreds of pieces, one by one and together, in one index."""
    text, pieces = IndexedText(max_chars=10_000), [f"{n} " for n in range(700)]
    for seq, piece in enumerate(pieces[:350], 1):
        text.append(piece, seq)
    for start in range(350, 700, 70):
        assert text.extend(pieces[start : start + 70], start + 1)
    assert str(text) == "".join(pieces)
    for seq in (1, 64, 65, 350, 351, 500, 700):
        assert text.piece(seq) == pieces[seq - 1]
        end = len("".join(pieces[:seq]))
        assert text.chars_at(seq) == end
        assert text.seq_at(end) == seq
        assert text.seq_at(end - 1) == seq - 1
