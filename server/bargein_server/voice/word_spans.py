"""Cuts a sentence's sound at words, so that heard text is exact.

A span has the text of its word with the white space *before* it. The heard text of a span that is cut short
ends at a space, so the rest of a word that was not finished is not heard.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Sequence

from msgspec import Struct

DEFAULT_MS_PER_CHAR = 55.0
_LONGEST_MS = 1000
_QUIET = 330
_BLOCK_MS = 10
_WORDS = re.compile(r"\S+")


class WordSpan(Struct, frozen=True):
    """Sound of a word.

    Args:
        pcm: PCM16 mono.
        text: The word with the white space before it; empty for silence, and for sound before the end of a
            long word.
    """

    pcm: bytes
    text: str


class WordCutter:
    """Cutter of one sentence.

    Args:
        text: The sentence; its words need not be separated by spaces.
        rate: Samples per second.
        word_times: Whether the voice reports the words; without, their positions are estimated.
        ms_per_char: Estimated duration of a character, in milliseconds.
    """

    def __init__(
        self, text: str, rate: int, *, word_times: bool, ms_per_char: float = DEFAULT_MS_PER_CHAR
    ) -> None:
        self._text = text
        self._rate = rate
        self._word_times = word_times
        self._longest = _LONGEST_MS * rate // 1000
        self._starts: list[tuple[int, float]] = []
        if not word_times:
            self._starts = [(at, at * ms_per_char) for at in _word_starts(text)]
        self._next = 0
        self._pending = b""
        self._cut_samples = 0
        self._given_chars = 0

    @property
    def rest(self) -> str:
        """White space after the last word, which belongs to the next sentence."""
        return self._text[self._given_chars :]

    @property
    def given_ms(self) -> float:
        """Duration of the spans that were given out, in milliseconds."""
        return self._cut_samples * 1000 / self._rate

    def add(self, pcm: bytes, words: Sequence[tuple[int, int]] = ()) -> Iterator[WordSpan]:
        """Take a piece of sound and yield the words that are complete."""
        self._pending += pcm
        if self._word_times:
            for at, ms in words:
                # A synthesiser may report a word twice, or one that it makes of a sign.
                if 0 <= at < len(self._text) and (not self._starts or at > self._starts[-1][0]):
                    self._starts.append((at, max(float(ms), self._starts[-1][1] if self._starts else 0.0)))
        while self._next + 1 < len(self._starts):
            char, start_ms = self._starts[self._next + 1]
            samples = round(start_ms * self._rate / 1000) - self._cut_samples
            if samples * 2 > len(self._pending):
                break
            self._next += 1
            yield self._span(max(0, samples), char)
        while len(self._pending) > 2 * 2 * self._longest:
            yield self._span(self._longest, None)

    def finish(self) -> Iterator[WordSpan]:
        """Yield the rest: the last words, and the silence after them."""
        sound = _length_without_silence(self._pending, self._rate)
        left = self._starts[self._next :]
        if not self._word_times and len(left) > 1:  # spread over the sound that is left
            first, done = left[0][0], 0
            chars = len(self._text.rstrip()) - first
            for char, _ in left[1:]:
                end = sound * (char - first) // chars
                yield self._span(end - done, char)
                done = end
            sound -= done
        while sound > 2 * self._longest:
            yield self._span(self._longest, None)
            sound -= self._longest
        if sound or self._text[self._given_chars :].strip():
            yield self._span(sound, len(self._text))
        if self._pending:
            yield self._span(len(self._pending) // 2, None)

    def _span(self, samples: int, before: int | None) -> WordSpan:
        """Cut a span; its text ends with the last word before a position."""
        pcm, self._pending = self._pending[: samples * 2], self._pending[samples * 2 :]
        self._cut_samples += samples
        text = "" if before is None else self._text[self._given_chars : before].rstrip()
        self._given_chars += len(text)
        return WordSpan(pcm, text)


def _word_starts(text: str) -> list[int]:
    return [found.start() for found in _WORDS.finditer(text)]


def _length_without_silence(pcm: bytes, rate: int) -> int:
    """Return the number of samples up to the last block that is not silent."""
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    block = rate * _BLOCK_MS // 1000
    length = len(samples)
    while length > 0:
        last = samples[max(0, length - block) : length]
        if max(last) > _QUIET or min(last) < -_QUIET:
            break
        length = max(0, length - block)
    return length
