"""Words that two readings of a growing sound agree on, to be kept.

The method is LocalAgreement-2 of Macháček, Dabre and Bojar, "Turning Whisper into Real-Time Transcription
System" (2023).
"""

from __future__ import annotations

import re

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_PIECES = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")


class Agreement:
    """Agreed words of one utterance.

    Attributes:
        text: The agreed words; later ones are appended.
    """

    def __init__(self) -> None:
        self.text = ""
        self._agreed = 0
        self._last: list[str] = []

    def add(self, reading: str) -> str:
        """Take a reading of all sound so far; return the agreed words.

        Args:
            reading: Its words; empty when it is of no use.
        """
        pieces = _PIECES.findall(reading)
        words = [_bare(piece) for piece in pieces]
        agreed = 0
        for word, before in zip(words, self._last, strict=False):
            if word != before:
                break
            agreed += 1
        self._last = words
        if agreed > self._agreed:
            self.text += "".join(pieces[self._agreed : agreed])
            self._agreed = agreed
        return self.text


def _bare(piece: str) -> str:
    """Return a word without case and punctuation, which readings change."""
    return "".join(char for char in piece.casefold() if char.isalnum()) or piece.strip()
