"""Thoughts that a model writes as `<think>…</think>` into its text."""

from __future__ import annotations

import re
from typing import Literal

_OPEN, _CLOSE = "<think>", "</think>"

# Families whose servers leave the tags in the content unless they are started with a parser for them.
_KNOWN = re.compile(
    r"deepseek-?r1|qwq|qwen-?3|minimax-?m|magistral|glm-?4\.[5-9]|glm-?z1|exaone-deep|phi-?4.*reasoning"
)


def writes_tags(model: str) -> bool:
    """Return whether a model is known to write the tags."""
    return _KNOWN.search(model.lower()) is not None


def tags_of(wanted: bool | Literal["opened"] | None, model: str) -> str | None:
    """Return where tags count: `anywhere`, `begin`, `opened` or None.

    Args:
        wanted: The author's choice; None decides by the model's name.
        model: The name.
    """
    if wanted == "opened":
        return "opened"
    if wanted is None:
        return "anywhere" if writes_tags(model) else "begin"
    return "anywhere" if wanted else None


class ThinkTags:
    """Splits the text of one answer into thoughts and text.

    Some templates open the tag at the end of the prompt. Then the answer has only the closing one, and
    the first such answer shows its thoughts as text; with `opened`, later ones do not.

    Args:
        anywhere: Whether tags count at any place. Otherwise only one with which the text begins counts,
            so that an answer about the tag stays whole.
        opened: Whether the prompt has opened the tag.

    Attributes:
        opened: Whether the prompt has opened the tag, as far as the text shows; None if it does not.
    """

    def __init__(self, *, anywhere: bool, opened: bool = False) -> None:
        self.opened: bool | None = None
        self._anywhere = anywhere or opened
        self._at_start = True  # of the text, or behind a closing tag: blanks and a tag are dropped there
        self._inside = opened  # behind the prompt's tag, and before any other
        self._thinking = opened
        self._had_thought = opened
        self._off = False
        self._held = ""
        self._unclosed: list[str] = []
        self._line_begins = True

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

    def had_thought(self) -> None:
        """Record a thought in a field of its own: a lone closing tag is text."""
        self._had_thought = True

    def finish(self, *, whole: bool = False) -> list[tuple[bool, str]]:
        """Return the rest at the end of the stream; a tag may be left open.

        Args:
            whole: Whether this was a whole answer. One without the closing tag was no thought.
        """
        held, self._held = self._held, ""
        blank = self._had_thought and not self._inside and not held.strip()
        pieces = [(self._thinking, held)] if held and not blank else []
        if self._inside and whole and (answer := "".join(self._unclosed) + held):
            self.opened = False
            pieces.append((False, answer))
        return pieces

    def _next(self, text: str, pieces: list[tuple[bool, str]]) -> str:
        """Take a part of the text; return the rest."""
        if self._at_start and (self._inside or not self._thinking):
            bare = text.lstrip()
            if _OPEN.startswith(bare[: len(_OPEN)]) and len(bare) < len(_OPEN):
                self._held = text
                return ""
            if bare.startswith(_OPEN):
                if self._inside:
                    self._inside, self.opened = False, False
                self._thinking = self._had_thought = True
                return bare[len(_OPEN) :]
            self._at_start, self._off = False, not self._anywhere
            text = bare if self._had_thought and not self._inside else text
        return self._until_tag(text, pieces)

    def _until_tag(self, text: str, pieces: list[tuple[bool, str]]) -> str:
        if self._off:
            pieces.append((False, text))
            return ""
        place, tag = self._closes_alone(text), _CLOSE
        if place < 0:
            tag = _CLOSE if self._thinking else _OPEN
            place = text.find(tag)
        found = place >= 0
        if found:
            before, after = text[:place], text[place + len(tag) :]
        else:
            kept = _tag_begin(text, tag)
            if not (self._thinking or self._had_thought):
                kept = max(kept, _tag_begin(text, _CLOSE))
            before, after, self._held = text[: len(text) - kept], "", text[len(text) - kept :]
        if before:
            pieces.append((self._thinking, before))
            self._line_begins = before.endswith("\n")
            if self._inside:
                self._unclosed.append(before)
        if found:
            if tag is _CLOSE and (self._inside or not self._thinking):
                self._inside, self.opened = False, True
            self._thinking = tag is _OPEN
            self._had_thought = True
            self._at_start = not self._thinking
        return after

    def _closes_alone(self, text: str) -> int:
        """Return the place of a closing tag that begins a line; -1 if it may not.

        Before it, there was neither a thought nor an opening tag.
        """
        if self._thinking or self._had_thought:
            return -1
        until = text.partition(_OPEN)[0]
        return 0 if self._line_begins and until.startswith(_CLOSE) else until.find(f"\n{_CLOSE}") + 1 or -1


def _tag_begin(text: str, tag: str) -> int:
    """Return how many of the last characters may be the begin of a tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)
