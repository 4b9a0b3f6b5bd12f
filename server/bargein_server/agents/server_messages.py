"""Messages of models' servers for the log, with remedies.

They contain neither the key nor the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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
