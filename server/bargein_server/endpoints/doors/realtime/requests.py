"""Checks of a Realtime client's events, and its items as messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ....core.history import Message
from ..conversation import valid_messages
from .shapes import COMPLETED, FORMATS, PCM, JsonMap, new_id, part_text

MAX_ID_CHARS = 256


class BadRequest(Exception):
    """An event cannot be carried out.

    Attributes:
        code: The code, on which clients branch.
        param: The field that is wrong, if one is.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def checked_session(patch: Any) -> JsonMap:
    """Return a patch of the session's configuration.

    Raises:
        BadRequest: It is no object, or a part has another type.
    """
    if not isinstance(patch, dict):
        raise BadRequest("invalid_value", "expected session as an object", "session")
    checked = dict(patch)
    if checked.get("tools") is not None and not isinstance(checked["tools"], list):
        raise BadRequest("invalid_value", "expected tools as a list", "session.tools")
    checked["tools"] = checked.get("tools", ...)
    if checked["tools"] is ...:
        del checked["tools"]
    elif checked["tools"] is None:
        checked["tools"] = []
    if not isinstance(checked.get("instructions") or "", str):
        raise BadRequest("invalid_value", "expected instructions as a text", "session.instructions")
    audio = checked.pop("audio", None)
    if isinstance(audio, dict):
        checked["audio"] = {
            side: _with_format(audio[side])
            for side in ("input", "output")
            if isinstance(audio.get(side), dict)
        }
    return checked


def _with_format(side: JsonMap) -> JsonMap:
    """Return one side of the audio; PCM has one rate, 24 kHz."""
    given = side.get("format")
    if given is None:
        return {name: value for name, value in side.items() if name != "format"}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in FORMATS:
        raise BadRequest("invalid_value", f"expected a format of {', '.join(FORMATS)}", "session.audio")
    return {**side, "format": PCM if kind == "audio/pcm" else {"type": kind}}


def checked_item(item: Any) -> JsonMap:
    """Return an item that a client creates, with an id.

    Raises:
        BadRequest: It has no known type, or a part is missing.
    """
    if not isinstance(item, dict):
        raise BadRequest("invalid_value", "expected item as an object", "item")
    given = item.get("id")
    if given is not None and not (isinstance(given, str) and 0 < len(given) <= MAX_ID_CHARS):
        raise BadRequest("invalid_value", f"expected an id of 1 to {MAX_ID_CHARS} characters", "item.id")
    kind = item.get("type")
    base = {"id": given or new_id("item"), "object": "realtime.item", "type": kind, "status": COMPLETED}
    if kind == "message":
        return {**base, "role": _role(item), "content": _content(item)}
    if kind == "function_call":
        return {**base, **_texts(item, "call_id", "name", "arguments")}
    if kind == "function_call_output":
        return {**base, **_texts(item, "call_id", "output")}
    if kind == "mcp_approval_response":
        answer = {"approve": item.get("approve") is True, "reason": item.get("reason")}
        return {"id": base["id"], "type": kind, **_texts(item, "approval_request_id"), **answer}
    raise BadRequest("invalid_value", f"items of the type {str(kind)[:60]!r} are not supported", "item.type")


def _role(item: JsonMap) -> str:
    role = item.get("role")
    if role not in ("user", "assistant", "system"):
        raise BadRequest("invalid_value", "expected role user, assistant or system", "item.role")
    return str(role)


def _content(item: JsonMap) -> list[JsonMap]:
    content = item.get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRequest("invalid_value", "expected content as a list of parts", "item.content")
    for part in content:
        if part.get("type") == "input_image":
            raise BadRequest("invalid_value", "images are not supported here", "item.content")
        if part.get("type") == "input_audio" and not part.get("transcript"):
            raise BadRequest("invalid_value", "sound without a transcript is not supported", "item.content")
    return [{name: value for name, value in part.items() if name != "audio"} for part in content]


def _texts(item: JsonMap, *names: str) -> JsonMap:
    for name in names:
        if not isinstance(item.get(name), str):
            raise BadRequest("invalid_value", f"expected {name} as a text", f"item.{name}")
    return {name: item[name] for name in names}


def text_of(item: Mapping[str, Any]) -> str:
    """Return the text of a message; empty for other items."""
    return part_text(item.get("content"))


def messages_of(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Return items as chat-completions messages, without system messages.

    User messages at the end stay, one after the other.
    """
    messages: list[JsonMap] = []
    for item in items:
        kind, role = item["type"], item.get("role")
        if kind == "message" and role != "system":
            messages.append({"role": role, "content": text_of(item)})
        elif kind == "function_call":
            call = {"id": item["call_id"], "name": item["name"], "arguments": item["arguments"]}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
    end = len(messages)
    while end and messages[end - 1]["role"] == "user":
        end -= 1
    return [*valid_messages(messages[:end]), *messages[end:]]
