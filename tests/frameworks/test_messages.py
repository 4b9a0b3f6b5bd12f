"""The history in the forms of other libraries."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from langchain_core.messages import convert_to_messages, convert_to_openai_messages
from pydantic_ai.messages import ModelRequest, ModelResponse

from bargein_server.frameworks import (
    NotInstalled,
    agents_sdk_agent,
    langchain_messages,
    langgraph_agent,
    pydantic_ai_agent,
    pydantic_messages,
    response_items,
)
from strict_model import read_items, read_messages


def called(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Help."},
    {"role": "user", "content": "go"},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [called("a", "look", '{"city": "Oslo"}'), called("b", "look", "{}")],
    },
    {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    {"role": "tool", "tool_call_id": "b", "content": "cancelled"},
    {"role": "assistant", "content": None, "tool_calls": [called("c", "book", "{}")]},
    {"role": "tool", "tool_call_id": "c", "content": "booked"},
    {"role": "assistant", "content": "[interrupted]"},
    {"role": "user", "content": "and?"},
]


def test_items_of_the_responses_api_say_the_same() -> None:
    """Calls and results are items of their own, beside messages."""
    items = response_items(MESSAGES)
    assert read_items(items) == read_messages(MESSAGES)
    assert items[0] == {"role": "system", "content": "Help."}
    assert [item.get("type") for item in items].count("function_call") == 3


def test_langchains_messages_say_the_same() -> None:
    """As LangChain's own conversion of them back, and of the originals, says."""
    made = langchain_messages(MESSAGES)
    back = convert_to_openai_messages(made)
    assert read_messages(back) == read_messages(MESSAGES)
    assert [message.text for message in made] == [
        message.text
        for message in convert_to_messages([{**m, "content": m["content"] or ""} for m in MESSAGES])
    ]


def test_pydantic_ais_messages_say_the_same() -> None:
    """Requests and responses alternate; each result is in the request after its call."""
    made = pydantic_messages(MESSAGES)
    assert [type(message) for message in made] == [ModelRequest, ModelResponse] * 3 + [ModelRequest]
    parts = [part for message in made for part in message.parts]
    assert [part.part_kind for part in parts] == [
        "system-prompt", "user-prompt", "text", "tool-call", "tool-call", "tool-return", "tool-return",
        "tool-call", "tool-return", "text", "user-prompt",
    ]  # fmt: skip
    returns = [(part.tool_name, part.content) for part in parts if part.part_kind == "tool-return"]
    assert returns == [("look", "sunny"), ("look", "cancelled"), ("book", "booked")]


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (langgraph_agent, "langchain"),
        (agents_sdk_agent, "openai-agents"),
        (pydantic_ai_agent, "pydantic-ai-slim"),
        (lambda messages: langchain_messages([messages]), "langchain-core"),
        (lambda messages: pydantic_messages([messages]), "pydantic-ai-slim"),
    ],
)
def test_a_missing_framework_is_named(make: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_spec("msgspec") is not None
    with pytest.raises(NotInstalled, match=f'pip install "{package}"'):
        make(None)
