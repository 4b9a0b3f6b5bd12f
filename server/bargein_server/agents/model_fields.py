"""Fields of a model server's JSON, which may have any shape.

Servers call themselves compatible and differ: a field is missing, null, empty or of another type. The
functions here return what can be understood, and never raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bargein_protocol.types import MAX_INT

_LONE = re.compile("[\ud800-\udfff]")


def string(value: Any) -> str:
    """Return a text without half surrogate pairs; empty for other values."""
    return _LONE.sub("\ufffd", value) if isinstance(value, str) else ""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, empty for any other value."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; a single object counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count(value: Any) -> int:
    """Return a number of tokens, 0 for anything that is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), MAX_INT)


def identifier(value: Any) -> str:
    """Return an id, empty for anything that is none."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else string(value)


def position(value: Any) -> int | None:
    """Return the index of a tool call, None for anything that is none."""
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_THINKING = ("thinking", "reasoning", "reasoning.text", "reasoning.summary")
_TEXTS = ("text", "thinking", "reasoning", "summary", "refusal", "content")


def parts(content: Any, thinking: bool = False) -> Iterator[tuple[bool, str]]:
    """Yield the texts of a content: a text, or a list of typed parts.

    Each comes with whether it is a thought. Halves of surrogate pairs are kept, because the other half
    may follow in the next delta.
    """
    if isinstance(content, str):
        if content:
            yield thinking, content
    elif isinstance(content, list):
        for part in content:
            if not isinstance(part, list):  # a list within a list has no meaning
                yield from parts(part, thinking)
    elif isinstance(content, dict):
        inside = thinking or content.get("type") in _THINKING
        for name in _TEXTS:
            value = content.get(name)
            if isinstance(value, (str, list)) and value:
                flat = value if isinstance(value, str) else [item for item in value if _is_flat(item)]
                yield from parts(flat, inside or name in _THINKING)
                return


def _is_flat(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and isinstance(item.get("text"), str))


def arguments(value: Any) -> str:
    """Return a piece of a call's arguments as JSON text; an object is whole."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


MAX_PIECE_CHARS = 128 * 1024
"""Maximum length of one delta; its frame stays within the protocol's bound, however it is escaped."""


def slices(text: str) -> Iterator[str]:
    """Yield a text in pieces that can be sent.

    Servers that do not stream send everything at once.
    """
    for at in range(0, len(text), MAX_PIECE_CHARS):
        yield text[at : at + MAX_PIECE_CHARS]


class SurrogateJoiner:
    """Joins characters whose two halves arrive in different deltas.

    Some servers cut their text within a surrogate pair and write both halves as escapes of JSON. A half
    without its other half becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._high = ""

    def feed(self, text: str) -> str:
        """Return the text as far as it is complete."""
        if not self._high and not _LONE.search(text):
            return text
        text, self._high = self._high + text, ""
        if text and "\ud800" <= text[-1] < "\udc00":
            text, self._high = text[:-1], text[-1]
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return _LONE.sub("\ufffd", joined)

    def finish(self) -> str:
        """Return the rest at the end of the text."""
        high, self._high = self._high, ""
        return "\ufffd" if high else ""


def cleaned(value: Any) -> Any:
    """Return a JSON value without half surrogate pairs in texts and names."""
    if isinstance(value, str):
        return SurrogateJoiner().feed(value + "\0")[:-1] if _LONE.search(value) else value
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(name): cleaned(item) for name, item in value.items()}
    return value


# Fields that come whole with each delta; other texts are pieces.
_WHOLE = frozenset({"type", "format", "id", "index", "role", "object", "name"})


def merged(before: Any, after: Any) -> Any:
    """Return a field of a message after one more delta.

    Texts and lists are continued, objects are merged, and items of a list that carry the same `index`
    are one item.
    """
    if after is None:
        return before
    if isinstance(before, str) and isinstance(after, str):
        return before + after
    if isinstance(before, dict) and isinstance(after, dict):
        result = dict(before)
        for name, value in after.items():
            whole = name in _WHOLE and value is not None
            result[name] = value if whole or name not in result else merged(result[name], value)
        return result
    if isinstance(before, list) and isinstance(after, list):
        result_list = list(before)
        for item in after:
            _add_item(result_list, item)
        return result_list
    return after


def _add_item(items: list[Any], item: Any) -> None:
    index = position(mapping(item).get("index"))
    if index is not None:
        for at, known in enumerate(items):
            if position(mapping(known).get("index")) == index and mapping(known).get("type") in (
                None, mapping(item).get("type")
            ):  # fmt: skip
                items[at] = merged(known, item)
                return
    items.append(item)


def keep_fields(fields: dict[str, Any], delta: Mapping[str, Any], read: frozenset[str]) -> None:
    """Add the fields of a delta that are not in `read` to earlier ones."""
    for name, value in delta.items():
        if name not in read:
            fields[name] = merged(fields.get(name), value)
