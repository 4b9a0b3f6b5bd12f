"""Order of the output of parallel lanes on one screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

PATIENCE = 8
"""Pieces of other lanes after which a lane that has ended a sentence gives way."""
LONGEST_WAIT = 64
"""Pieces of other lanes after which any lane gives way."""

_SENTENCE_END = re.compile(r"[.!?\u2026:;\u3002\uff01\uff1f][\"'\u201d\u2019)\]*_`]*\s*$")


class Piece(NamedTuple):
    """Output of a lane.

    Attributes:
        source: The lane.
        show: Writes the piece.
        text: Its text, if it continues the text before it; None for a line of its own.
    """

    source: str
    show: Callable[[], None]
    text: str | None


class LaneOrder:
    """Shows one lane's output at a time, so that sentences are not mixed.

    The lane that is shown gives way to the one that has waited longest: at the end of a line, at the end of
    a sentence after `PATIENCE` pieces of others, and anywhere after `LONGEST_WAIT`. A line of its own
    waits for the end of the sentence, too.
    """

    def __init__(self) -> None:
        self._lane: str | None = None
        self._tail = ""  # the end of the text of the lane that is shown
        self._waiting: dict[str, list[Piece]] = {}
        self._lines: list[Piece] = []
        self._waited = 0

    def add(self, piece: Piece) -> None:
        """Show a piece, now or when its lane has its turn."""
        if self._lane is None or piece.source == self._lane:
            self._lane = piece.source
            self._show(piece)
        else:
            self._waiting.setdefault(piece.source, []).append(piece)
            self._waited += 1
        while self._waiting and self._gives_way():
            self._next()

    def pause(self, source: str) -> None:
        """Take the text of a lane as ended, although its sentence is not."""
        if source == self._lane:
            self._tail = ""
            self._show_lines()

    def flush(self) -> None:
        """Show everything that waits."""
        self._show_lines()
        while self._waiting:
            self._next()

    def _gives_way(self) -> bool:
        if not self._tail or self._tail.endswith("\n"):
            return True
        return self._waited >= (LONGEST_WAIT if self._in_sentence() else PATIENCE)

    def _in_sentence(self) -> bool:
        return not (not self._tail or self._tail.endswith("\n") or _SENTENCE_END.search(self._tail))

    def _next(self) -> None:
        self._show_lines()
        self._lane = next(iter(self._waiting))
        pieces = self._waiting.pop(self._lane)
        self._tail, self._waited = "", sum(map(len, self._waiting.values()))
        for piece in pieces:
            self._show(piece)

    def _show(self, piece: Piece) -> None:
        if piece.text is None and self._in_sentence():
            self._lines.append(piece)
            return
        piece.show()
        self._tail = "" if piece.text is None else (self._tail + piece.text)[-16:]
        if self._lines and not self._in_sentence():
            self._show_lines()

    def _show_lines(self) -> None:
        lines, self._lines = self._lines, []
        for piece in lines:
            piece.show()
            self._tail = ""
