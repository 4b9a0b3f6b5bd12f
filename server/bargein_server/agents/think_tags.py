"""Thoughts that a model writes as `<think>…</think>` into its text."""

from __future__ import annotations

import re

_OPEN, _CLOSE = "<think>", "</think>"

# Families whose servers leave the tags in the content unless they are started with a parser for them.
_KNOWN = re.compile(
    r"deepseek-?r1|qwq|qwen-?3|minimax-?m|magistral|glm-?4\.[5-9]|glm-?z1|exaone-deep|phi-?4.*reasoning"
)


def writes_tags(model: str) -> bool:
    """Return whether a model is known to write the tags."""
    return _KNOWN.search(model.lower()) is not None


class ThinkTags:
    """Splits the text of one answer into thoughts and text.

    Args:
        anywhere: Whether tags count at any place. Otherwise only one with which the text begins counts,
            so that an answer about the tag stays whole.
    """

    def __init__(self, *, anywhere: bool) -> None:
        self._anywhere = anywhere
        self._at_start = True  # of the text, or behind a closing tag: blanks and a tag are dropped there
        self._thinking = False
        self._had_thought = False
        self._off = False
        self._held = ""

    def feed(self, piece: str) -> list[tuple[bool, str]]:
        """Return the next pieces, each with whether it is a thought.

        The begin of a possible tag is held back until it is decided.
        """
        if self._off:
            return [(False, piece)] if piece else []
        pieces: list[tuple[bool, str]] = []
        text, self._held = self._held + piece, ""
        while text:
            text = self._next(text, pieces)
        return pieces

    def finish(self) -> list[tuple[bool, str]]:
        """Return the rest at the end of the stream; a tag may be left open."""
        held, self._held = self._held, ""
        blank = self._had_thought and not held.strip()
        return [(self._thinking, held)] if held and not blank else []

    def _next(self, text: str, pieces: list[tuple[bool, str]]) -> str:
        """Take a part of the text; return the rest."""
        if self._at_start and not self._thinking:
            bare = text.lstrip()
            if _OPEN.startswith(bare[: len(_OPEN)]) and len(bare) < len(_OPEN):
                self._held = text
                return ""
            if bare.startswith(_OPEN):
                self._thinking = self._had_thought = True
                return bare[len(_OPEN) :]
            self._at_start, self._off = False, not self._anywhere
            text = bare if self._had_thought else text
        return self._until_tag(text, pieces)

    def _until_tag(self, text: str, pieces: list[tuple[bool, str]]) -> str:
        if self._off:
            pieces.append((False, text))
            return ""
        tag = _CLOSE if self._thinking else _OPEN
        before, found, after = text.partition(tag)
        if not found:
            kept = _tag_begin(text, tag)
            before, self._held = text[: len(text) - kept], text[len(text) - kept :]
        if before:
            pieces.append((self._thinking, before))
        if found:
            self._thinking = not self._thinking
            self._had_thought = True
            self._at_start = not self._thinking
        return after


def _tag_begin(text: str, tag: str) -> int:
    """Return how many of the last characters may be the begin of a tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)
