"""Messages of the chat-completions API, valid for any output of a model.

One invalid message makes every later request of a conversation fail, so names and arguments are corrected
to the form that APIs accept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, json

from bargein_protocol import ToolStatus

Message = dict[str, Any]

_ODD = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64


class NamedCall(Struct, frozen=True):
    """A tool call as a model wrote it.

    Args:
        arguments: JSON text, possibly cut or malformed.
    """

    call_id: str
    name: str
    arguments: str


def calls_message(content: str | None, calls: Iterable[NamedCall]) -> Message:
    """Return the assistant's message that calls tools.

    One `result_message` for each call must follow.
    """
    return {
        "role": "assistant",
        "content": content or None,
        "tool_calls": [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": _legal_name(call.name), "arguments": _legal_arguments(call.arguments)},
            }
            for call in calls
        ],
    }


def result_message(call_id: str, status: ToolStatus, output: Any, error: str | None) -> Message:
    """Return the message that answers a tool call."""
    if status == "completed":
        content = output if isinstance(output, str) else json.encode(output).decode()
    elif status == "failed":
        content = f"error: {error or 'failed'}"
    elif status == "cancelled":
        content = f"cancelled: {error}" if error else "cancelled"
    else:
        content = "running"
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _legal_name(name: str) -> str:
    return _ODD.sub("_", name)[:_MAX_NAME] or "unknown"


def _legal_arguments(arguments: str) -> str:
    try:
        whole = json.decode(arguments.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return "{}"  # cut while streaming; half of a JSON text would make the request invalid
    return arguments if isinstance(whole, dict) else "{}"
