"""The history as other libraries want it.

`turn.history.messages()` has the form of chat completions. Each function here takes such messages and returns
the same conversation in another form, which is valid there for the same reasons: each call has one result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bargein_server.agent import Message

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from pydantic_ai.messages import ModelMessage


def response_items(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as input items of OpenAI's Responses API.

    Args:
        messages: Messages in the form of chat completions.
    """
    items: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            call_id, output = message["tool_call_id"], message["content"]
            items.append({"type": "function_call_output", "call_id": call_id, "output": output})
            continue
        if message.get("content"):
            items.append({"role": message["role"], "content": message["content"]})
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            items.append(
                {"type": "function_call", "call_id": call["id"], "name": name, "arguments": arguments}
            )
    return items


def langchain_messages(messages: Iterable[Message]) -> list[BaseMessage]:
    """Return messages as LangChain's.

    Args:
        messages: Messages in the form of chat completions.

    Raises:
        NotInstalled: `langchain-core` is not installed.
    """
    require("langchain_core", "langchain-core", "langchain_messages")
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

    made: list[BaseMessage] = []
    names: dict[str, str] = {}
    for message in messages:
        content = message.get("content") or ""
        match message["role"]:
            case "user":
                made.append(HumanMessage(content))
            case "system" | "developer":
                made.append(SystemMessage(content))
            case "tool":
                call_id = message["tool_call_id"]
                made.append(ToolMessage(content, tool_call_id=call_id, name=names.get(call_id)))
            case _:
                calls = message.get("tool_calls") or ()
                names |= {call["id"]: call["function"]["name"] for call in calls}
                tool_calls = [
                    ToolCall(
                        name=call["function"]["name"],
                        args=json.loads(call["function"]["arguments"]),
                        id=call["id"],
                        type="tool_call",
                    )
                    for call in calls
                ]
                made.append(AIMessage(content, tool_calls=tool_calls))
    return made


def pydantic_messages(messages: Iterable[Message]) -> list[ModelMessage]:
    """Return messages as Pydantic AI's.

    Args:
        messages: Messages in the form of chat completions.

    Raises:
        NotInstalled: `pydantic-ai-slim` is not installed.
    """
    require("pydantic_ai", "pydantic-ai-slim", "pydantic_messages")
    from pydantic_ai.messages import (
        ModelRequest,
        ModelRequestPart,
        ModelResponse,
        ModelResponsePart,
        SystemPromptPart,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    made: list[ModelMessage] = []
    names: dict[str, str] = {}

    def request(part: ModelRequestPart) -> None:
        if made and isinstance(made[-1], ModelRequest):
            made[-1].parts = [*made[-1].parts, part]
        else:
            made.append(ModelRequest(parts=[part]))

    for message in messages:
        content = message.get("content") or ""
        match message["role"]:
            case "user":
                request(UserPromptPart(content))
            case "system" | "developer":
                request(SystemPromptPart(content))
            case "tool":
                call_id = message["tool_call_id"]
                request(ToolReturnPart(names.get(call_id, "unknown"), content, tool_call_id=call_id))
            case _:
                parts: list[ModelResponsePart] = [TextPart(content)] if content else []
                for call in message.get("tool_calls") or ():
                    names[call["id"]] = call["function"]["name"]
                    parts.append(
                        ToolCallPart(
                            names[call["id"]], call["function"]["arguments"], tool_call_id=call["id"]
                        )
                    )
                if parts:
                    made.append(ModelResponse(parts=parts))
    return made


class NotInstalled(ImportError):
    """A framework is not installed; the message names the package."""


def require(module: str, package: str, what: str) -> None:
    """Raise `NotInstalled` unless a module can be imported."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise NotInstalled(f'{what} needs {module}: pip install "{package}"', name=module)
