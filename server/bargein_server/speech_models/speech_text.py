"""Words of a model's speech, put to its sound by their estimated times."""

from __future__ import annotations

import re

MS_PER_CHAR = 60.0
"""Estimated duration of a character, until a whole answer has been measured."""
_WORDS = re.compile(r"\s*\S+")


class TimedWords:
    """Words of one answer, which come beside the sound and usually before it.

    Args:
        ms_per_char: Estimated duration of a character.
    """

    def __init__(self, ms_per_char: float = MS_PER_CHAR) -> None:
        self._text = ""
        self._given = 0
        self._ms_per_char = ms_per_char

    @property
    def chars(self) -> int:
        """Number of characters so far."""
        return len(self._text)

    def add(self, text: str) -> None:
        """Take words of the speech."""
        self._text += text

    def until(self, audio_ms: float) -> str:
        """Return the new words that begin before a position of the sound."""
        end = self._given
        for word in _WORDS.finditer(self._text, self._given):
            if word.start() * self._ms_per_char >= audio_ms:
                break
            if word.end() == len(self._text) and not self._text[-1].isspace():
                break  # its end may still come
            end = word.end()
        given, self._given = self._text[self._given : end], end
        return given

    def rest(self) -> str:
        """Return all words that were not given yet."""
        given, self._given = self._text[self._given :], len(self._text)
        return given
