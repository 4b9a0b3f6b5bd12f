"""Where a conversation is shown: the interface, and the plain one for pipes and simple terminals."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from .terminal import Kind, is_colourful, neutralise, paint

CUT = "\u27c2"
"""A perpendicular sign: here something was cut."""


class Screen(Protocol):
    """Shows a conversation. Whoever calls it need not care what the text contains."""

    def write(self, kind: Kind, text: str) -> None:
        """Go on writing; a change of kind between text and thoughts begins a new line."""
        ...

    def line(self, kind: Kind, text: str) -> None:
        """Write a line of its own."""
        ...

    def end_line(self) -> None:
        """Begin a new line unless one has just begun."""
        ...

    def cut(self) -> None:
        """Mark where the answer was cut off, and begin a new line."""
        ...

    def status(self, message: str | None) -> None:
        """Say what is going on right now; None when nothing is."""
        ...


class PlainScreen:
    """The answer on standard output, everything else on standard error.

    Args:
        out: Where answers go; standard output.
        err: Where everything else goes; standard error.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._colourful = is_colourful(self._err)
        self._shared = self._out.isatty()
        self._answering = False
        self._telling = False
        self._said = ""

    def write(self, kind: Kind, text: str) -> None:
        """Go on writing."""
        text = neutralise(text)
        if kind == "text":
            self._end_news()
            self._out.write(text)
            self._out.flush()
            self._answering = not text.endswith("\n") if text else self._answering
        else:
            if self._shared:
                self._end_answer()
            self._err.write(paint(kind, text) if self._colourful else text)
            self._err.flush()
            self._telling = not text.endswith("\n") if text else self._telling

    def line(self, kind: Kind, text: str) -> None:
        """Write a line of its own, on standard error; the user has seen what the user typed."""
        if kind != "user":
            self._end_news()
            self.write("note" if kind == "text" else kind, text + "\n")

    def end_line(self) -> None:
        """Begin a new line."""
        self._end_news()
        self._end_answer()

    def cut(self) -> None:
        """Mark where the answer was cut off; in a file or a pipe an answer holds nothing but itself."""
        if self._answering and self._shared:
            self._out.write(f" {CUT}")
        self.end_line()

    def status(self, message: str | None) -> None:
        """Write each new status as a line, but not into the middle of an answer."""
        if message and message != self._said and not self._answering:
            self.line("note", f"\u2026 {message}")
        self._said = message or ""

    def _end_answer(self) -> None:
        if self._answering:
            self._out.write("\n")
            self._out.flush()
            self._answering = False

    def _end_news(self) -> None:
        if self._telling:
            self._err.write("\n")
            self._err.flush()
            self._telling = False
