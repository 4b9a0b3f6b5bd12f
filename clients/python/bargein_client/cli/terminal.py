"""Safe and coloured text for terminals."""

from __future__ import annotations

import json
import os
import re
from typing import Literal, TextIO

Kind = Literal["text", "thought", "note", "mark", "user"]
"""Kind of a piece of text: answer, thought, notice, warning, or the user's own words."""

_SGR = {"text": "", "thought": "2;3", "note": "2", "mark": "33", "user": "1"}

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = (
    "\u00ad\u115f\u1160\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
"""Characters without a shape: default ignorable ones other than joiners and combining marks."""
_JOINERS = "\u200c\u200d"
_INVISIBLE_MARKS = "\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_FLAG = "\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f"
"""Flag of a part of a country, such as Scotland."""

_UNSAFE = re.compile(
    f"{_FLAG}|[{_CONTROLS}{_BIDI}{_HIDDEN}\u2028\u2029]|(?<=[\x00-\x7f{_BIDI}{_HIDDEN}{_JOINERS}])[{_JOINERS}]"
)
_DIRECTION = re.compile(f"[{_BIDI}]")
_NOT_SHOWN = re.compile(f"[\x7f-\x9f\u2028\u2029{_BIDI}{_HIDDEN}{_JOINERS}{_INVISIBLE_MARKS}]")


def neutralise(text: str) -> str:
    """Return text that a terminal shows as it is.

    The words of a model must not move the cursor, change the title, fill the clipboard, reorder a line or
    hide something in it.

    - A control character but newline and tab, and each that changes the direction of text, becomes a
      visible symbol. Carriage returns are removed, because they would allow overwriting a line.
    - Characters without a shape are removed. Joiners remain after other than ASCII characters, where
      emoji and many scripts need them, and so do combining marks.
    - Line and paragraph separators become newlines.
    """
    return _UNSAFE.sub(_picture, text)


def one_line(text: str) -> str:
    """Return safe text for a notice, on one line."""
    return " ".join(neutralise(text).splitlines())


def escape_json(text: str) -> str:
    """Escape characters of JSON that a terminal interprets or does not show."""
    return _NOT_SHOWN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def moves_cursor(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can redraw a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colourful(stream: TextIO) -> bool:
    """Return whether a stream shows colours (no-color.org)."""
    return moves_cursor(stream) and not os.environ.get("NO_COLOR")


def paint(kind: Kind, text: str) -> str:
    """Return text with the colours of its kind."""
    look = _SGR[kind]
    return f"\x1b[{look}m{text}\x1b[0m" if look and text else text


def _picture(match: re.Match[str]) -> str:
    found = match[0]
    code = ord(found[0])
    if code == 0x0D:
        return ""
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if code < 0xA0 or _DIRECTION.match(found):
        return "\ufffd"
    if found in "\u2028\u2029":
        return "\n"
    return found if len(found) > 1 else ""
