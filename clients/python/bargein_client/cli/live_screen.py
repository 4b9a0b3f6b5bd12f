"""`bargein chat` at a terminal: answers scroll above a fixed prompt.

Only complete lines go into the terminal's own history, so that the user can scroll and copy them: of an
answer the rendered blocks of its Markdown, of anything else the lines, wrapped at words here. The incomplete
rest is drawn together with the prompt.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, FormattedText, to_formatted_text
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.shortcuts import print_formatted_text
from prompt_toolkit.utils import get_cwidth

from .chat import Chat
from .consent import Policy
from .conversation import NEW, Choice, connected
from .markdown import MarkdownText
from .screen import CUT
from .terminal import Kind, is_colourful, neutralise, one_line

_STYLES: dict[Kind, str] = {
    "text": "",
    "thought": "italic ansibrightblack",
    "note": "ansibrightblack",
    "mark": "ansiyellow",
    "user": "bold",
}
_SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"
_SPIN_S = 0.1
_ROWS_BELOW = 6
"""Rows that the prompt, the status and a line of context take from the growing block."""

Line = list[tuple[str, str]]


class LiveScreen:
    """Screen with a prompt that stays during an answer.

    Args:
        send: Called with each line that the user enters.
        press_break: Called for Ctrl-C.
        colourful: Whether to use colours and styles.
    """

    def __init__(
        self, send: Callable[[str], None], press_break: Callable[[], None], *, colourful: bool = True
    ) -> None:
        self._send = send
        self._left = False
        self._colourful = colourful
        self._answer: MarkdownText | None = None
        self._growing: Line = []
        self._width = 0
        self._kind: Kind = "text"
        self._whole: list[Line] = []
        self._blank = True  # whether the last line of the history is empty
        self._printing: asyncio.Handle | None = None
        self._status: str | None = None
        self._spin = 0
        self._spinning: asyncio.TimerHandle | None = None
        self._buffer = Buffer(multiline=False, accept_handler=self._accept)
        self.application = self._application(press_break)

    async def run(self) -> None:
        """Read the keyboard until `leave`."""
        if not self._left:
            await self.application.run_async(pre_run=self._redraw)

    def leave(self) -> None:
        """Make `run` return."""
        self._left = True
        if self.application.is_running and not self.application.is_done:
            self.application.exit()

    def prefill(self, text: str) -> None:
        """Put text into the prompt, for the user to change."""
        self._buffer.text = one_line(text)
        self._buffer.cursor_position = len(self._buffer.text)

    def finish(self) -> None:
        """Print the remaining lines, after `run` has returned."""
        for timer in (self._spinning, self._printing):
            if timer is not None:
                timer.cancel()
        self.end_line()
        for line in self._whole:
            print_formatted_text(FormattedText(line))
        self._whole = []

    def _accept(self, buffer: Buffer) -> bool:
        self._send(buffer.text)
        return False  # clear the buffer

    # --- the interface of a screen ---------------------------------------------------------------

    def write(self, kind: Kind, text: str) -> None:
        """Append text."""
        if kind != self._kind and text:
            self.end_line()
            self._kind = kind
        if kind == "text":
            if self._answer is None:
                self._answer = MarkdownText(self._columns, colourful=self._colourful)
            self._commit(self._answer.add(neutralise(text)))
        else:
            for character in neutralise(text).expandtabs(4):
                self._put(self._style(kind), character)
        self._redraw()

    def line(self, kind: Kind, text: str) -> None:
        """Write a line of its own."""
        self.end_line()
        self.write("note" if kind == "text" else kind, one_line(text))
        self.end_line()

    def gap(self) -> None:
        """Write an empty line, unless the last one is empty."""
        self.end_line()
        if not self._blank:
            self._append([])
            self._redraw()

    def end_line(self) -> None:
        """Start a new line."""
        if self._answer is not None:
            self._commit(self._answer.finish())
            self._answer = None
        if self._growing:
            self._break(len(self._growing))
        self._redraw()

    def cut(self) -> None:
        """Mark the position at which the answer was cut off."""
        lines = [] if self._answer is None else self._answer.finish()
        self._answer = None
        self._commit(lines[:-1])
        self._growing += _fragments(lines[-1]) if lines else []
        self._width = sum(get_cwidth(text) for _, text in self._growing)
        for character in f" {CUT}":
            self._put(self._style("mark"), character)
        self.end_line()

    def status(self, message: str | None, *, passing: bool = False) -> None:
        """Show the current activity beside a spinner."""
        self._status = None if message is None else one_line(message)
        if self._status is not None and self._spinning is None:
            self._turn_spinner()
        self._redraw()

    # --- lines -----------------------------------------------------------------------------------

    def _style(self, kind: Kind) -> str:
        return _STYLES[kind] if self._colourful else ""

    def _columns(self) -> int:
        return max(20, self.application.output.get_size().columns - 1)

    def _commit(self, lines: list[str]) -> None:
        for line in lines:
            self._append(_fragments(line))

    def _append(self, line: Line) -> None:
        self._whole.append(line)
        self._blank = not line

    def _put(self, style: str, character: str) -> None:
        if character == "\n":
            self._break(len(self._growing))
            return
        self._growing.append((style, character))
        self._width += get_cwidth(character)
        if self._width >= self.application.output.get_size().columns:
            spaces = [at for at, (_, before) in enumerate(self._growing) if before == " "]
            self._break(spaces[-1] + 1 if spaces else len(self._growing) - 1)

    def _break(self, at: int) -> None:
        """Move the first `at` characters of the growing line into the history."""
        runs = groupby(self._growing[:at], key=itemgetter(0))
        self._append([(style, "".join(character for _, character in run)) for style, run in runs])
        self._growing = self._growing[at:]
        self._width = sum(get_cwidth(character) for _, character in self._growing)

    def _growing_text(self) -> FormattedText:
        """Return the incomplete rest of the output."""
        if self._answer is None:
            return FormattedText(self._growing)
        rows = max(1, self.application.output.get_size().rows - _ROWS_BELOW)
        return FormattedText(_fragments("\n".join(self._answer.growing(rows))))

    def _has_growing(self) -> bool:
        return bool(self._growing) if self._answer is None else not self._answer.empty

    def _redraw(self) -> None:
        if not self.application.is_running:
            return
        if self._whole and self._printing is None:
            self._printing = asyncio.get_running_loop().call_soon(self._print)
        self.application.invalidate()

    def _print(self) -> None:
        """Print the complete lines above the prompt, once per loop iteration.

        `run_in_terminal` would leave raw mode while it prints, and a Ctrl-C in that time would not
        arrive as a key. Printing reads nothing, so raw mode can stay on.
        """
        self._printing = None
        lines, self._whole = self._whole, []
        self.application.renderer.erase()
        for line in lines:
            self.application.print_text(FormattedText([*line, ("", "\n")]))
        self.application.invalidate()

    def _turn_spinner(self) -> None:
        self._spin += 1
        if self._status is None:
            self._spinning = None
            return
        self._spinning = asyncio.get_running_loop().call_later(_SPIN_S, self._turn_spinner)
        self.application.invalidate()

    # --- layout ----------------------------------------------------------------------------------

    def _application(self, press_break: Callable[[], None]) -> Application[None]:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add(Keys.SIGINT)
        def _(event: KeyPressEvent) -> None:
            press_break()

        @keys.add("c-d", filter=Condition(lambda: not self._buffer.text))
        def _(event: KeyPressEvent) -> None:
            self.leave()

        growing = Window(
            FormattedTextControl(self._growing_text),
            dont_extend_height=True,
            wrap_lines=True,
        )
        status = Window(FormattedTextControl(self._status_text), height=1)
        prompt = Window(
            BufferControl(self._buffer, input_processors=[BeforeInput("> ")]),
            dont_extend_height=True,
            wrap_lines=True,
        )
        rows = [
            ConditionalContainer(growing, Condition(self._has_growing)),
            ConditionalContainer(status, Condition(lambda: self._status is not None)),
            prompt,
        ]
        return Application(Layout(HSplit(rows), prompt), key_bindings=keys, erase_when_done=True)

    def _status_text(self) -> FormattedText:
        spinner = _SPINNER[self._spin % len(_SPINNER)]
        return FormattedText([(self._style("note"), f"{spinner} {self._status or ''}")])


def _fragments(line: str) -> Line:
    return [(style, text) for style, text, *_ in to_formatted_text(ANSI(line))]


async def chat_live(
    url: str, token: str | None, *, policy: Policy | None = None, choice: Choice = NEW
) -> int:
    """Run a conversation until the user leaves or the session is over."""
    async with connected(url, token, choice) as talk:
        screen = LiveScreen(
            lambda text: chat.send(text), lambda: chat.press_break(), colourful=is_colourful(sys.stdout)
        )
        chat = Chat(talk.session, screen, screen.leave, policy=policy or "ask", prefill=screen.prefill)
        screen.line("note", f"connected to {url}")
        screen.line("note", "Enter or Ctrl-C interrupts an answer, Ctrl-C twice leaves, /help lists commands")
        chat.go_on(talk.inputs, "user")
        running = asyncio.create_task(chat.run())
        running.add_done_callback(lambda _: screen.leave())
        try:
            await screen.run()
        finally:
            running.cancel()
            await chat.stop()
            await asyncio.wait([running])
            screen.finish()
        if not running.cancelled():
            running.result()
    return 0
