"""Rules of the API of chat completions for messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import json

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_valid(messages: Sequence[dict[str, Any]], own: str) -> dict[str, str]:
    """Check messages that end with the user's `own`; return results by call."""
    assert messages[-1] == {"role": "user", "content": own}
    spoken = [
        message["role"] for message in messages if message["role"] != "tool" and not message.get("tool_calls")
    ]
    assert spoken == (["user", "assistant"] * len(spoken))[: len(spoken)]
    results: dict[str, str] = {}
    waits: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waits.pop(0)
            assert isinstance(message["content"], str)
            results[message["tool_call_id"]] = message["content"]
            continue
        assert waits == [], "a call without its result right after its message"
        if message["role"] == "user":
            assert set(message) == {"role", "content"}
            continue
        assert message["role"] == "assistant"
        waits = [call["id"] for call in message.get("tool_calls", ())]
        assert len(set(waits)) == len(waits)
        assert message["content"] or (waits and message["content"] is None)
        for call in message.get("tool_calls", ()):
            assert call["type"] == "function"
            assert _NAME.fullmatch(call["function"]["name"])
            assert isinstance(json.decode(call["function"]["arguments"].encode()), dict)
    assert waits == []
    json.encode(messages)
    return results
