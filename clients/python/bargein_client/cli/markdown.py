"""Markdown for terminals, rendered while it grows.

Blocks that are complete, such as paragraphs and items of a list, are rendered once and for all. The block
that still grows is rendered anew whenever it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from .terminal import neutralise

MAX_BLOCK_CHARS = 8192
"""Size at which a block is rendered although it is incomplete; every growth parses the block again."""

_LISTS = ("bullet_list_open", "ordered_list_open")
_TRAILING = re.compile(r"(?:[ \t]|\x1b\[[0-9;]*m)+$")
_STYLES = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.link": "underline",
        "markdown.link_url": "bright_black",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.block_quote": "italic",
    }
)


class MarkdownText:
    """Markdown text that grows.

    Args:
        width: Returns the number of columns.
        colourful: Whether to use colours and styles; the output then contains SGR sequences.
    """

    def __init__(self, width: Callable[[], int], *, colourful: bool) -> None:
        self._width = width
        self._colourful = colourful
        self._rest = ""
        self._before: str | None = None  # type of the last rendered block
        self._parser = _parser()
        self._shown: tuple[str, int, list[str]] = ("", 0, [])

    @property
    def empty(self) -> bool:
        """Whether no text waits for the end of its block."""
        return not self._rest.strip()

    def add(self, text: str) -> list[str]:
        """Append text; return the lines of the blocks that are complete now."""
        begins_line = self._rest.endswith("\n")
        self._rest += text
        if "\n" not in text and not begins_line and len(self._rest) < MAX_BLOCK_CHARS:
            return []
        lines: list[str] = []
        for kind, source in self._complete_blocks():
            lines += self._block(kind, source)
            self._before = kind
        return lines

    def growing(self, rows: int) -> list[str]:
        """Return the last lines of the block that still grows."""
        if self.empty:
            return []
        columns = self._width()
        if self._shown[:2] != (self._rest, columns):
            tokens = self._tokens(self._rest)
            kind = tokens[0].type if tokens else ""
            self._shown = (self._rest, columns, self._block(kind, self._rest))
        return self._shown[2][-rows:]

    def finish(self) -> list[str]:
        """Return the lines of the last block, which is complete now."""
        lines = self.growing(len(self._rest) * 2)
        self._rest, self._before = "", None
        return lines

    def _complete_blocks(self) -> Iterator[tuple[str, str]]:
        """Yield and remove all blocks but the last, with types and sources."""
        lines = [f"{line}\n" for line in self._rest.split("\n")]
        tokens = self._tokens(self._rest)
        if not tokens:
            return
        starts = list(_starts(tokens))
        for (kind, start), (_, end) in pairwise(starts):
            yield kind, "".join(lines[start:end])
        self._rest = "".join(lines[starts[-1][1] :])[:-1]
        if len(self._rest) >= MAX_BLOCK_CHARS and "\n" in self._rest:
            source, _, grows = self._rest.rpartition("\n")
            last = tokens[-1]
            opening = lines[starts[-1][1]] if last.type == "fence" else ""
            yield starts[-1][0], source
            self._rest = opening + grows

    def _block(self, kind: str, source: str) -> list[str]:
        """Return the rendered lines of one block, with the empty line before it."""
        rendered = _rendered(self._parser, source, self._width(), colourful=self._colourful)
        gap = self._before is not None and not (self._before == kind and kind in _LISTS)
        return [""] * gap + rendered

    def _tokens(self, source: str) -> list[Token]:
        return [token for token in self._parser.parse(source) if token.map and token.nesting >= 0]


def _starts(tokens: Sequence[Token]) -> Iterator[tuple[str, int]]:
    """Yield each block's type and first line, with list items as blocks."""
    kind = ""
    for token in tokens:
        assert token.map is not None
        if token.level == 0:
            kind = token.type
            if kind not in _LISTS:
                yield kind, token.map[0]
        elif token.level == 1 and token.type == "list_item_open" and kind in _LISTS:
            yield kind, token.map[0]


def _parser() -> MarkdownIt:
    """Return a parser for text of which nothing disappears.

    HTML, images and definitions of links stay visible as text.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    return parser.disable(["image", "reference"])


def _rendered(parser: MarkdownIt, source: str, columns: int, *, colourful: bool) -> list[str]:
    out = StringIO()
    console = Console(
        file=out,
        force_terminal=colourful,
        color_system="standard" if colourful else None,
        width=columns,
        legacy_windows=False,
        theme=_STYLES,
        emoji=False,
        highlight=False,
        markup=False,
    )
    console.print(_SafeMarkdown(parser, source))
    lines = [_trimmed(line) for line in out.getvalue().split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def _trimmed(line: str) -> str:
    """Return a line without filling spaces, and with its style's end."""
    trimmed = _TRAILING.sub("", line)
    return f"{trimmed}\x1b[0m" if "\x1b" in trimmed else trimmed


class _LeftHeading(Heading):
    """Heading at the left margin, without a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _PlainCodeBlock(CodeBlock):
    """Code without margins, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip("\n")
        if console.color_system is None:
            yield Text(code)
        else:
            yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)


class _SafeMarkdown(Markdown):
    """Markdown with safe text, own line breaks, and visible link targets."""

    elements = Markdown.elements | {
        "heading_open": _LeftHeading,
        "fence": _PlainCodeBlock,
        "code_block": _PlainCodeBlock,
    }

    def __init__(self, parser: MarkdownIt, source: str) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(_safe(parser.parse(source)))


def _safe(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens with safe text, also of character references."""
    for token in tokens:
        token.content = neutralise(token.content)
        token.info = neutralise(token.info)
        if token.children:
            token.children = list(_safe(token.children))
        if token.type == "softbreak":
            token.type = "hardbreak"
        elif token.type == "link_open":
            token.attrs["href"] = neutralise(str(token.attrs.get("href", "")))
        if token.markup != "autolink":  # its text is the URL already
            yield token
