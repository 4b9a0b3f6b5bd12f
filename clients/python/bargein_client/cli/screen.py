"""Output of a conversation: the interface, and a plain form for pipes."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from .terminal import Kind, is_colourful, neutralise, one_line, paint

CUT = "\u27c2"
"""Mark of the position at which an answer was cut off."""


class Screen(Protocol):
    """Output of a conversation; text may contain any characters."""

    def write(self, kind: Kind, text: str) -> None:
        """Append text; a change between text and thoughts starts a new line."""
        ...

    def line(self, kind: Kind, text: str) -> None:
        """Write a line of its own."""
        ...

    def end_line(self) -> None:
        """Start a new line unless the current one is empty."""
        ...

    def cut(self) -> None:
        """Mark the position at which the answer was cut off, and start a new line."""
        ...

    def gap(self) -> None:
        """Separate a turn from the one before it by an empty line."""
        ...

    def status(self, message: str | None, *, passing: bool = False) -> None:
        """Show the current activity; None for no activity.

        A passing one is followed by a line of its own, so a screen without a place for it leaves it out.
        """
        ...


class PlainScreen:
    """Plain output: answers on standard output, the rest on standard error.

    Args:
        out: Stream for answers; standard output when None.
        err: Stream for everything else; standard error when None.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._colourful = is_colourful(self._err)
        self._shared = self._out.isatty()
        self._answering = False
        self._answered = False
        self._noting = False
        self._last_status = ""

    def write(self, kind: Kind, text: str) -> None:
        """Append text."""
        text = neutralise(text)
        if kind == "text":
            self._end_note()
            self._write_answer(text)
        else:
            if self._shared:
                self._end_answer()
            self._err.write(paint(kind, text) if self._colourful else text)
            self._err.flush()
            self._noting = not text.endswith("\n") if text else self._noting

    def line(self, kind: Kind, text: str) -> None:
        """Write a separate line on standard error, except the user's own words."""
        if kind != "user":
            self._end_note()
            self.write("note" if kind == "text" else kind, one_line(text) + "\n")

    def end_line(self) -> None:
        """Start a new line."""
        self._end_note()
        self._end_answer()

    def cut(self) -> None:
        """Mark the position at which the answer was cut off, on terminals only."""
        if self._answering and self._shared:
            self._out.write(f" {CUT}")
        self.end_line()

    def gap(self) -> None:
        """Write an empty line between two answers."""
        self.end_line()
        if self._answered:
            self._answered = False
            self._out.write("\n")
            self._out.flush()

    def status(self, message: str | None, *, passing: bool = False) -> None:
        """Write each new status as a line, but not into the middle of an answer."""
        if passing:
            return
        if message and message != self._last_status and not self._answering:
            self.line("note", f"\u2026 {message}")
        self._last_status = message or ""

    def _write_answer(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        if text:
            self._answering, self._answered = not text.endswith("\n"), True

    def _end_answer(self) -> None:
        if self._answering:
            self._out.write("\n")
            self._out.flush()
            self._answering = False

    def _end_note(self) -> None:
        if self._noting:
            self._err.write("\n")
            self._err.flush()
            self._noting = False
