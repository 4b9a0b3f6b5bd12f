"""Scan of JSON before it is decoded.

The time for a value depends on its kind more than on its size. An empty array of three bytes takes 60 ns and
56 bytes of memory. A number such as 1e300, whose exponent is near the end of the range, takes 12 µs.
"""

from __future__ import annotations

import re
from itertools import islice

MAX_LARGE_EXPONENTS = 64
"""Maximum number of numbers in a frame whose exponent has three digits or more."""

MAX_DIGITS = 309
"""Maximum number of digits of a number: those of the largest double. Longer ones take quadratic time."""

_TO_ZERO = bytes(0x30 if byte in range(0x30, 0x3A) else byte for byte in range(256))
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)

_OTHER_MARKS = 64
"""Marks of an event around its values."""

_LARGE_EXPONENT = re.compile(rb"[0-9][eE][+-]?[0-9]{3}")


def structure_fault(frame: bytes, max_values: int | None) -> str | None:
    """Return the reason not to decode JSON, None without one.

    Args:
        frame: The JSON; what is none may have no fault here, and is refused by the decoder without harm.
        max_values: Maximum number of values, keys included; None for no bound.
    """
    if max_values is None:
        return None
    # Each byte may be text as well, so these are upper bounds. An empty array in an array has two marks.
    marks, most_marks = _marks(frame), 2 * max_values + _OTHER_MARKS
    exponents = frame.count(b"e") + frame.count(b"E")
    digits = _TOO_MANY_DIGITS in frame.translate(_TO_ZERO)
    if marks <= most_marks and exponents <= MAX_LARGE_EXPONENTS and not digits:
        return None
    rest = _without_strings(frame)
    if _marks(rest) > most_marks:
        return f"expected at most {max_values} values, got more"
    if digits and _TOO_MANY_DIGITS in rest.translate(_TO_ZERO):
        return f"expected numbers of at most {MAX_DIGITS} digits, got a longer one"
    found = islice(_LARGE_EXPONENT.finditer(rest), MAX_LARGE_EXPONENTS + 1)
    if sum(1 for _ in found) > MAX_LARGE_EXPONENTS:
        return f"expected at most {MAX_LARGE_EXPONENTS} numbers with an exponent of three digits, got more"
    return None


def _marks(frame: bytes) -> int:
    return frame.count(b",") + frame.count(b":") + frame.count(b"[") + frame.count(b"{")


def _without_strings(frame: bytes) -> bytes:
    """Return JSON without the contents of its strings."""
    plain = frame.replace(rb"\\", b"").replace(rb"\"", b"")
    return b'""'.join(plain.split(b'"')[::2])
