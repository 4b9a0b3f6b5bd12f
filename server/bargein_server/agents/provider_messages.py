"""Chat-completions requests as requests to the models of Pydantic AI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from bargein_server.agent import Message


class ProviderRequest(NamedTuple):
    """One request as Pydantic AI takes it."""

    messages: list[ModelMessage]
    settings: ModelSettings
    parameters: ModelRequestParameters


def request_of(
    messages: Sequence[Message],
    kept: Sequence[ModelResponse],
    tools: Sequence[dict[str, Any]],
    options: dict[str, Any],
    choice: Any,
) -> ProviderRequest:
    """Translate a request of the chat-completions API.

    Args:
        messages: The whole request, with the system prompt.
        kept: The model's own messages of this turn, the last ones that call tools in `messages`.
        tools: Tools, as in `function` of a specification.
        options: Model settings.
        choice: `tool_choice`; None leaves it to the model.
    """
    if isinstance(choice, dict):
        choice = [choice["function"]["name"]]
    if choice is not None:
        options = {**options, "tool_choice": choice}
    definitions = [
        ToolDefinition(
            name=tool["name"],
            description=tool["description"] or None,
            parameters_json_schema=tool["parameters"],
        )
        for tool in tools
    ]
    parameters = ModelRequestParameters(function_tools=definitions)
    return ProviderRequest(model_messages(messages, kept), cast(ModelSettings, options), parameters)


def model_messages(messages: Sequence[Message], kept: Sequence[ModelResponse] = ()) -> list[ModelMessage]:
    """Return messages of the chat-completions API in the form of Pydantic AI.

    The last messages with tool calls are replaced by the `kept` ones, which have what the provider wants
    back. Ids, names and arguments are those of `messages`: they are unique and valid.
    """
    instructions: str | None = None
    translated: list[ModelMessage] = []
    names: dict[str, str] = {}
    given: list[ModelRequestPart] = []
    calling = sum("tool_calls" in message for message in messages)
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "system":
            instructions = content
        elif role == "user":
            given.append(UserPromptPart(_user_content(content)))
        elif role == "tool":
            call_id = message["tool_call_id"]
            given.append(ToolReturnPart(names.get(call_id, "unknown"), content, call_id))
        else:
            if given:
                translated.append(ModelRequest(given))
                given = []
            calls = [
                ToolCallPart(call["function"]["name"], call["function"]["arguments"], call["id"])
                for call in message.get("tool_calls", ())
            ]
            names.update({call.tool_call_id: call.tool_name for call in calls})
            parts: list[ModelResponsePart] = [TextPart(content)] if content else []
            own = None
            if calls:
                own = kept[len(kept) - calling] if calling <= len(kept) else None
                calling -= 1
            translated.append(_kept_with(own, calls) or ModelResponse([*parts, *calls]))
    translated.append(ModelRequest(given, instructions=instructions))
    return translated


def _user_content(content: str | list[dict[str, Any]]) -> str | list[UserContent]:
    """Return a user's content, with files in the form of Pydantic AI."""
    if isinstance(content, str):
        return content
    parts: list[UserContent] = []
    for part in content:
        if part["type"] == "text":
            parts.append(part["text"])
        else:
            url = part["image_url"]["url"] if part["type"] == "image_url" else part["file"]["file_data"]
            parts.append(BinaryContent.from_data_uri(url))
    return parts


def _kept_with(own: ModelResponse | None, calls: list[ToolCallPart]) -> ModelResponse | None:
    """Return a kept message with corrected calls; None if it is about others."""
    if own is None or len(calls) != sum(isinstance(part, ToolCallPart) for part in own.parts):
        return None
    corrected = iter(calls)
    parts: list[ModelResponsePart] = []
    for part in own.parts:
        if isinstance(part, ToolCallPart):
            call, said = next(corrected), cast(Any, part)
            part = replace(said, tool_name=call.tool_name, args=call.args, tool_call_id=call.tool_call_id)
        parts.append(part)
    return replace(own, parts=parts)
