"""Fields of a model server's JSON, which may have any shape.

Servers call themselves compatible and differ: a field is missing, null, empty or of another type. The
functions here return what can be understood, and never raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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


# --- errors, for the log: neither the key nor the conversation, and a remedy ---------------------------

_RETRYABLE = frozenset({408, 409, 429})
_MAX_MESSAGE = 300


class Origin(NamedTuple):
    """Source of the key and of the address, as remedies name them.

    Args:
        key: Environment variable or argument that holds the key.
        url: Environment variable or argument that holds the URL of the API.
        ending: Advice on the end of the URL.
    """

    key: str = "OPENAI_API_KEY"
    url: str = "OPENAI_BASE_URL"
    ending: str = ": it ends with /v1 at most servers"


REMEDIES = {
    401: "check {0.key}",
    403: "check {0.key} and its rights",
    404: "check the model's name and {0.url}",
    405: "check {0.url}{0.ending}",
    429: "check the limits and the credit of the key",
}
"""What to check, by the status of an error; to be formatted with an `Origin`."""


def may_pass(status: int | None) -> bool:
    """Return whether a later request may succeed.

    Args:
        status: Status of the error; None for a lost connection.
    """
    return status is None or status in _RETRYABLE or status >= 500


def complaint(body: Any) -> str:
    """Return the message in the body of an error; of a page only its text."""
    for name in ("error", "message", "detail", "msg"):
        if isinstance(body, dict) and isinstance(inner := body.get(name), (str, dict)):
            body = inner
    if isinstance(body, dict):
        body = next((value for value in body.values() if isinstance(value, str)), "")
    if not isinstance(body, str):
        body = ""
    page = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", body)
    return " ".join(page.split())


_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"|`([^`]+)`|“([^”]+)”")
_KEY_LIKE = re.compile(r"\b(sk|pk|key|gsk|xai|hf)[-_][\w*.…-]{4,}|\bBearer\s+\S+", re.IGNORECASE)
_RUN = 3


def without(message: str, key: str, said: Iterable[Mapping[str, Any]]) -> str:
    """Return a server's message without the key and the conversation's text."""
    if len(key) > 3:
        message = message.replace(key, "[key]")
    message = _KEY_LIKE.sub("[key]", message)[: 2 * _MAX_MESSAGE]
    spoken = " ".join(" ".join(_texts(said)).split())
    message = _QUOTED.sub(
        lambda match: "[…]" if next(filter(None, match.groups())).strip() in spoken else match[0], message
    )
    words = message.split()
    hidden: set[int] = set()
    for at in range(len(words)):
        run = words[at : at + _RUN]
        if len(run) == _RUN and " ".join(run).strip(".,:;!?'\"()") in spoken:
            hidden.update(range(at, at + _RUN))
    shown = " ".join("…" if at in hidden else word for at, word in enumerate(words))
    return re.sub(r"…( …)+", "[…]", shown)[:_MAX_MESSAGE]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inside in value.items():
            if name not in ("role", "type", "id", "tool_call_id"):
                yield from _texts(inside)
    elif isinstance(value, Iterable):
        for inside in value:
            yield from _texts(inside)
