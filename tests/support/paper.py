"""A screen of the command that writes everything down."""

from __future__ import annotations

from bargein_client.cli.terminal import Kind


class Paper:
    """A screen that writes everything down.

    Attributes:
        lines: All but the answers.
        answer: The answers; `|` marks a cut.
        states: What the status said.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.answer = ""
        self.states: list[str | None] = []

    def write(self, kind: Kind, text: str) -> None:
        if kind == "text":
            self.answer += text
        else:
            self.lines.append(text)

    def line(self, kind: Kind, text: str) -> None:
        self.lines.append(text)

    def end_line(self) -> None:
        if self.answer and not self.answer.endswith("\n"):
            self.answer += "\n"

    def cut(self) -> None:
        self.answer += "|"

    def gap(self) -> None:
        pass

    def status(self, message: str | None, *, passing: bool = False) -> None:
        self.states.append(message)
