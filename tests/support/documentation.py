"""Snippets, commands and links of the Markdown pages, for the tests that execute them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
IGNORED = re.compile(r"(^|/)(node_modules|dist|\.(?!github/))")


class Block(NamedTuple):
    """One fenced block.

    Args:
        page: The page, relative to the root.
        line: Number of its first line.
        language: Word after the fence.
        text: Content.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Name of the file in the first line's comment."""
        found = re.match(r"# ([a-z_]+\.py)\n", self.text)
        return found[1] if found else None


def pages() -> list[str]:
    """Return every Markdown page of the repository, relative to its root."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(str(path) for path in found if not IGNORED.search(path.as_posix()))


def blocks(page: str, language: str) -> list[Block]:
    """Return the fenced blocks of a page in one language."""
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if found[1] == language
    ]


def commands(page: str) -> list[str]:
    """Return the commands of a page: lines of console blocks that begin with `$`, joined at backslashes."""
    joined = "\n".join(block.text for block in blocks(page, "console")).replace("\\\n", " ")
    return re.findall(r"^\$ (.*)$", joined, re.MULTILINE)


def links(page: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the anchor of each relative link of a page."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (unicodedata.normalize("NFC", title).strip().lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}
