"""Scan of MessagePack before it is decoded.

The format: https://github.com/msgpack/msgpack/blob/master/spec.md. A decoder makes tuples of arrays that
are keys of a map. Tuples of -1 and -2 hash alike in any order, so a frame of 256 KiB could keep a dict busy
for seconds. JSON has no keys but strings.
"""

from __future__ import annotations

_MAX_OPEN = 1024
"""Nesting at which the decoder runs out of stack."""

_FIXMAP, _FIXARRAY, _FIXSTR = range(0x80, 0x90), range(0x90, 0xA0), range(0xA0, 0xC0)
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_SCALARS = {
    0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip

_EMPTY_MAP, _EMPTY_ARRAY = _FIXMAP.start, _FIXARRAY.start
_SHORT = range(_FIXMAP.start, _FIXARRAY.stop)
_VARIABLE = 255
_REST = bytes(
    0
    if byte in (_EMPTY_MAP, _EMPTY_ARRAY)
    else _VARIABLE
    if byte in _FIXMAP or byte in _FIXARRAY or byte in {*_ARRAYS, *_MAPS, *_STRINGS, *_BINARIES, *_EXTENSIONS}
    else byte - _FIXSTR.start
    if byte in _FIXSTR
    else _SCALARS.get(byte, 0)
    for byte in range(256)
)
"""Bytes after the first one of a value, by that one."""
_IS_STRING = bytes(byte in _FIXSTR or byte in _STRINGS for byte in range(256))
_WIDTHS = {**_STRINGS, **_BINARIES, **_EXTENSIONS, **_ARRAYS, **_MAPS}


def structure_fault(frame: bytes, max_values: int | None) -> str | None:
    """Return the reason not to decode a frame, None without one.

    Args:
        frame: The frame; what is no MessagePack may have no fault here, and is refused by the decoder
            without harm.
        max_values: Maximum number of values, keys included; None for as many as its bytes hold.
    """
    most = len(frame) if max_values is None else max_values
    at, left, in_map, values = 0, 1, False, 0
    outer: list[tuple[int, bool]] = []
    try:
        while True:
            while not left:
                if not outer:
                    return None
                left, in_map = outer.pop()
            byte = frame[at]
            if in_map and not left & 1 and not _IS_STRING[byte]:
                return "expected keys that are strings, got others"
            at += 1
            left -= 1
            rest = _REST[byte]
            if rest != _VARIABLE:
                at += rest
                continue
            if byte in _SHORT:  # without a call, because a frame may hold thousands
                size = byte & 0x0F
            else:
                size, at = _size(frame, byte, at)
            if byte in _FIXMAP or byte in _MAPS:
                outer.append((left, in_map))
                left, in_map = 2 * size, True
            elif byte in _FIXARRAY or byte in _ARRAYS:
                outer.append((left, in_map))
                left, in_map = size, False
            else:
                at += size
                continue
            if left > len(frame) - at or len(outer) > _MAX_OPEN:
                return None  # incomplete, or beyond the stack: no decoder gets farther
            values += left
            if values > most:
                return f"expected at most {most} values, got more"
    except IndexError:  # incomplete
        return None


def _size(frame: bytes, byte: int, at: int) -> tuple[int, int]:
    """Return the size of a variable value, and where its contents begin."""
    end = at + _WIDTHS[byte]
    return int.from_bytes(frame[at:end], "big") + (byte in _EXTENSIONS), end
