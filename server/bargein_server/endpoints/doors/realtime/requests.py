"""Checks of a Realtime client's events, and its items as messages."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from bargein_protocol import Attachment
from bargein_protocol.types import MAX_ATTACHMENTS

from ....core.history import Message
from ..messages import valid_messages
from .shapes import COMPLETED, JsonMap, new_id, part_text

MAX_ID_CHARS = 256

_IMAGE = re.compile(r"data:image/[a-z0-9.+-]{1,60};base64,")


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
        reason = item.get("reason")
        answer = {
            "approve": item.get("approve") is True,
            "reason": reason if isinstance(reason, str) else None,
        }
        return {"id": base["id"], "type": kind, **_texts(item, "approval_request_id"), **answer}
    raise BadRequest("invalid_value", f"items of the type {str(kind)[:60]!r} are not supported", "item.type")


def _role(item: JsonMap) -> str:
    role = item.get("role")
    if role not in ("user", "assistant", "system"):
        raise BadRequest("invalid_value", "expected role user, assistant or system", "item.role")
    return str(role)


def _content(item: JsonMap) -> list[JsonMap]:
    """Return the parts of a message, with the types that its role has."""
    content = item.get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRequest("invalid_value", "expected content as a list of parts", "item.content")
    prefix = "output_" if item["role"] == "assistant" else "input_"
    return [_part(part, prefix) for part in content]


def _part(part: JsonMap, prefix: str) -> JsonMap:
    kind = str(part.get("type")).removeprefix("input_").removeprefix("output_")
    if kind == "text":
        return {"type": prefix + "text", **_texts(part, "text")}
    if kind == "audio":
        if not part.get("transcript"):
            raise BadRequest("invalid_value", "sound without a transcript is not supported", "item.content")
        return {"type": prefix + "audio", **_texts(part, "transcript")}
    if kind != "image" or prefix != "input_":
        raise BadRequest("invalid_value", "expected parts of text, audio or image", "item.content")
    if not _IMAGE.match(str(part.get("image_url"))):
        raise BadRequest("invalid_value", "expected image_url as data:image/…;base64,…", "item.content")
    detail = part["detail"] if part.get("detail") in ("low", "high") else "auto"
    return {"type": "input_image", "image_url": part["image_url"], "detail": detail}


def images_of(items: Iterable[Mapping[str, Any]]) -> list[Attachment]:
    """Return the images of messages, the last ones if they are too many.

    Raises:
        BadRequest: One is not in base64.
    """
    images: list[Attachment] = []
    for item in items:
        for part in item.get("content") or ():
            if part.get("type") == "input_image":
                kind, _, data = str(part["image_url"]).removeprefix("data:").partition(";base64,")
                try:
                    images.append(Attachment(media_type=kind, data=b64decode(data, validate=True)))
                except ValueError:
                    raise BadRequest("invalid_value", "expected an image in base64", "item.content") from None
    return images[-MAX_ATTACHMENTS:]


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
