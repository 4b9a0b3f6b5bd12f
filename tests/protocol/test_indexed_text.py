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
    runs=st.lists(
        st.tuples(
            st.lists(st.text("ab", max_size=3), min_size=1, max_size=90), st.integers(1, 3), st.booleans()
        ),
        max_size=6,
    )
)
def test_the_tail_grows_by_many_pieces_as_by_one(runs: list[tuple[list[str], int, bool]]) -> None:
    """Pieces appended to the tail and counted afterwards are like pieces appended one by one."""
    many, single, seq = IndexedText(), IndexedText(), 0
    for pieces, step, read in runs:
        first, tail = seq + step, many.tail()
        for seq, piece in enumerate(pieces, first):
            tail.append(piece)
            single.append(piece, seq)
        if read:
            assert str(many) == str(single)  # an interrupt reads the text before it is counted
        many.grow(first, len(pieces), sum(map(len, pieces)))
        if step == 2:
            assert str(many) == str(single)  # reading in between changes nothing
        for number in range(seq + 2):
            assert many.chars_at(number) == single.chars_at(number)
        for number, piece in enumerate(pieces, first):
            assert many.piece(number) == piece
    assert (str(many), many.length) == (str(single), single.length)
    for chars in range(many.length + 1):
        assert many.seq_at(chars) == single.seq_at(chars)


def test_the_tail_after_packing_is_a_new_one() -> None:
    """A list that was packed away ends the text no more; `tail` returns the one that does."""
    text = IndexedText()
    old = text.tail()
    old.append("a")
    text.grow(1, 1, 1)
    text.pack()
    new = text.tail()
    assert new is not old
    new.append("b")
    text.grow(2, 1, 1)
    assert (str(text), text.piece(Seq(1)), text.piece(Seq(2))) == ("ab", "a", "b")


@pytest.mark.parametrize("gap", [0, 5])
def test_text_that_begins_with_an_empty_piece_keeps_its_number(gap: int) -> None:
    """Also when the next piece does not follow it."""
    text = IndexedText()
    text.append("", 1)
    text.append("a", 2 + gap)
    assert (text.piece(Seq(1)), text.piece(Seq(2 + gap))) == ("", "a")


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
        more = pieces[start : start + 70]
        text.tail().extend(more)
        text.grow(start + 1, len(more), sum(map(len, more)))
    assert str(text) == "".join(pieces)
    for seq in (1, 64, 65, 350, 351, 500, 700):
        assert text.piece(seq) == pieces[seq - 1]
        end = len("".join(pieces[:seq]))
        assert text.chars_at(seq) == end
        assert text.seq_at(end) == seq
        assert text.seq_at(end - 1) == seq - 1
