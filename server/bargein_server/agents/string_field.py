"""Text of one field of a JSON object that is still being written."""

from __future__ import annotations

from enum import Enum
from json import loads

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SPACE = " \t\n\r"


class _At(Enum):
    """Part of the object that the next character belongs to."""

    OPEN = 0  # the brace of the object
    KEY = 1
    COLON = 2
    VALUE = 3  # the first character of a value
    SKIPPED = 4  # a value of another field
    FIELD = 5
    DONE = 6


class StringField:
    """Text of one top-level field of a JSON object, in pieces.

    It reads each character once. Input that is not a JSON object yields no text; the reader of the whole
    object reports that.

    Args:
        name: The field.

    Attributes:
        complete: Whether the field's closing quote was read.
    """

    def __init__(self, name: str) -> None:
        self.complete: bool = False
        self._name = name
        self._at = _At.OPEN
        self._string: str | None = None  # the key or skipped string that is being read, with its escapes
        self._escape = ""
        self._high = ""  # the first half of a surrogate pair
        self._depth = 0
        self._key = ""

    def feed(self, piece: str) -> str:
        """Read the next piece of the object; return the new text of the field."""
        if self._at is _At.FIELD and "\\" not in piece and '"' not in piece and not self._escape:
            return self._flush_high() + piece
        return "".join(self._read(character) for character in piece)

    def _read(self, character: str) -> str:
        if self._at is _At.FIELD:
            return self._read_field(character)
        if self._string is not None:
            self._read_other_string(character)
        elif character == '"' and self._at in (_At.KEY, _At.SKIPPED):
            self._string = ""
        elif self._at is _At.OPEN:
            self._at = _At.KEY if character == "{" else self._at if character in _SPACE else _At.DONE
        elif self._at is _At.COLON and character == ":":
            self._at = _At.VALUE
        elif self._at is _At.VALUE and character not in _SPACE:
            self._begin_value(character)
        elif self._at is _At.SKIPPED:
            self._skip(character)
        return ""

    def _begin_value(self, character: str) -> None:
        if character == '"' and self._key == self._name:
            self._at = _At.FIELD
            return
        self._at = _At.SKIPPED
        if character == '"':
            self._string = ""
        else:
            self._skip(character)

    def _skip(self, character: str) -> None:
        if character in "{[":
            self._depth += 1
        elif self._depth and character in "}]":
            self._depth -= 1
        elif not self._depth and character in ",}":
            self._at = _At.KEY if character == "," else _At.DONE

    def _read_other_string(self, character: str) -> None:
        assert self._string is not None
        if self._escape:
            self._escape = ""
        elif character == "\\":
            self._escape = character
        elif character == '"':
            if self._at is _At.KEY:
                self._key, self._at = _unescaped(self._string), _At.COLON
            self._string = None
            return
        self._string += character

    def _read_field(self, character: str) -> str:
        if not self._escape:
            if character == "\\":
                self._escape = character
                return ""
            if character == '"':
                self.complete, self._at = True, _At.DONE
                return self._flush_high()
            return self._flush_high() + character
        self._escape += character
        if self._escape[1] != "u":
            self._escape = ""
            return self._flush_high() + _ESCAPES.get(character, character)
        if len(self._escape) < 6:
            return ""
        escape, self._escape = self._escape, ""
        return self._read_unicode(escape[2:])

    def _read_unicode(self, digits: str) -> str:
        try:
            code = int(digits, 16)
        except ValueError:
            return self._flush_high() + "\ufffd"
        if 0xDC00 <= code < 0xE000 and self._high:
            high, self._high = ord(self._high), ""
            return chr(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00))
        before = self._flush_high()
        if 0xD800 <= code < 0xDC00:
            self._high = chr(code)
            return before
        return before + ("\ufffd" if 0xDC00 <= code < 0xE000 else chr(code))

    def _flush_high(self) -> str:
        if not self._high:
            return ""
        self._high = ""
        return "\ufffd"  # half a pair without its other half


def _unescaped(string: str) -> str:
    try:
        return str(loads(f'"{string}"', strict=False))
    except ValueError:
        return string
