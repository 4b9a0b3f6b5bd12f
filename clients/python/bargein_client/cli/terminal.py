"""Safe and coloured text for terminals."""

from __future__ import annotations

import os
import re
from typing import Literal, TextIO

Kind = Literal["text", "thought", "note", "mark", "user"]
"""Kind of a piece of text: answer, thought, notice, warning, or the user's own words."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SGR = {"text": "", "thought": "2;3", "note": "2", "mark": "33", "user": "1"}


def neutralise(text: str) -> str:
    """Return text without control characters, for a terminal.

    The words of a model must not move the cursor, change the title or fill the clipboard. Every control
    character but newline and tab becomes a visible symbol. Carriage returns are removed, because they
    would allow overwriting a line.
    """
    return _CONTROLS.sub(_picture, text)


def escape_json(line: str) -> str:
    """Escape control characters that JSON allows but a terminal interprets."""
    return re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", line)


def is_colourful(stream: TextIO) -> bool:
    """Return whether a stream shows colours (no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(kind: Kind, text: str) -> str:
    """Return text with the colours of its kind."""
    look = _SGR[kind]
    return f"\x1b[{look}m{text}\x1b[0m" if look and text else text


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x0D:
        return ""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
