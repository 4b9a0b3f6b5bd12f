"""Plain output for terminals, with answers as Markdown while they grow."""

from __future__ import annotations

import shutil
from typing import TextIO

from .markdown import MarkdownText
from .screen import CUT, PlainScreen
from .terminal import paint

_ROWS_BELOW = 2


class RichScreen(PlainScreen):
    """Screen of a terminal with colours, without a prompt.

    The block that grows is drawn again with every piece of it.

    Args:
        out: Stream for answers; standard output when None.
        err: Stream for everything else; standard error when None.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        super().__init__(out, err)
        self._text: MarkdownText | None = None
        self._rows = 0  # of the drawn block

    def cut(self) -> None:
        """Mark the position at which the answer was cut off."""
        if self._text is not None:
            self._finish(f" {paint('mark', CUT)}")
        self.end_line()

    def _write_answer(self, text: str) -> None:
        if not text:
            return
        if self._text is None:
            self._text = MarkdownText(_columns, colourful=True)
        lines = self._text.add(text)
        self._erase()
        self._out.writelines(f"{line}\n" for line in lines)
        growing = self._text.growing(max(1, shutil.get_terminal_size().lines - _ROWS_BELOW))
        self._out.write("\n".join(growing))
        self._out.flush()
        self._rows = len(growing)
        self._answering = self._answered = True

    def _end_answer(self) -> None:
        if self._text is not None:
            self._finish("")

    def _finish(self, mark: str) -> None:
        assert self._text is not None
        lines = self._text.finish()
        self._text, self._answering = None, False
        self._erase()
        if lines or mark:
            self._out.write("\n".join(lines) + f"{mark}\n")
        self._out.flush()

    def _erase(self) -> None:
        up = f"\x1b[{self._rows - 1}A" if self._rows > 1 else ""
        if self._rows:
            self._out.write(f"\r{up}\x1b[J")
        self._rows = 0


def _columns() -> int:
    return max(20, shutil.get_terminal_size().columns - 1)
