"""Objects of OpenAI's Realtime protocol: session, items, responses.

Source: the types of `openai.types.realtime`, and the fields that its clients need in practice.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from bargein_protocol import Usage

JsonMap = dict[str, Any]

PCM: JsonMap = {"type": "audio/pcm", "rate": 24000}
FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma")

IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"


def new_id(prefix: str) -> str:
    """Return a new id, such as `item_…`."""
    return f"{prefix}_{secrets.token_hex(10)}"


def default_session(session_id: str, model: str) -> JsonMap:
    """Return the configuration of a fresh session without sound.

    Turn detection is null: a server that does not listen must not be taken for one that interrupts by voice.
    """
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["text"],
        "instructions": "",
        "audio": {
            "input": {"format": PCM, "transcription": None, "noise_reduction": None, "turn_detection": None},
            "output": {"format": PCM, "voice": "alloy", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "expires_at": 0,
    }


def part_text(content: Any) -> str:
    """Return the text of an item's content: its texts and transcripts, joined."""
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") or part.get("transcript") for part in content if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


def message_item(item_id: str, status: str, content: list[JsonMap]) -> JsonMap:
    """Return a message of the assistant."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def call_item(item_id: str, call_id: str, name: str, arguments: str, status: str) -> JsonMap:
    """Return a function call."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def approval_item(item_id: str, name: str, arguments: str) -> JsonMap:
    """Return a question whether a tool of the server may run."""
    return {
        "id": item_id,
        "type": "mcp_approval_request",
        "server_label": "bargein",
        "name": name,
        "arguments": arguments,
    }


def response_object(
    response_id: str, session: Mapping[str, Any], conversation_id: str | None, metadata: Any
) -> JsonMap:
    """Return a response that has just begun."""
    audio = session.get("audio") or {}
    output = audio.get("output") or {}
    return {
        "object": "realtime.response",
        "id": response_id,
        "status": IN_PROGRESS,
        "status_details": None,
        "output": [],
        "conversation_id": conversation_id,
        "output_modalities": session["output_modalities"],
        "max_output_tokens": session.get("max_output_tokens"),
        "audio": {"output": {"format": output.get("format", PCM), "voice": output.get("voice")}},
        "usage": None,
        "metadata": metadata,
    }


def usage_object(usage: Usage | None) -> JsonMap:
    """Return the tokens of a response."""
    given, made = (usage.input_tokens, usage.output_tokens) if usage is not None else (0, 0)
    return {
        "total_tokens": given + made,
        "input_tokens": given,
        "output_tokens": made,
        "input_token_details": {
            "text_tokens": given,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": made, "audio_tokens": 0},
    }


def error_object(
    code: str,
    message: str,
    event_id: str | None,
    kind: str = "invalid_request_error",
    param: str | None = None,
) -> JsonMap:
    """Return the `error` of an error event.

    Args:
        code: The code, on which clients branch.
        message: A text for people.
        event_id: The client's event that is wrong, if it has an id.
        kind: `invalid_request_error` or `server_error`.
        param: The field that is wrong.
    """
    return {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
