"""Requests as LibreChat's server sends them for a custom endpoint; itself it needs MongoDB.

It uses LangChain's client of OpenAI's API: streamed answers with the usage, and titles by a request of its
own that has the headers of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from door_agent import play
from live_server import Serving, serving
from sse_client import Http, http

CONVERSATION = "9b1f6d7a-3f52-4d4a-8b2a-1f0b0c0d0e0f"
COMPLETION = (
    "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return "
    "the title itself.\n\nConversation:\nUser: look\n\nAI: It is blue."
)
STRUCTURED = (
    "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise "
    "title in the detected language (5 words or less, no punctuation or quotation)\n\nUser: look\n\n"
    "AI: It is blue."
)
OWN = "### Task: a title for this.\n\nUser: look\n\nAI: It is blue."
"""A `titlePrompt` of the administrator's own that begins as the documentation says."""


@asynccontextmanager
async def librechat() -> AsyncIterator[tuple[Serving, Http]]:
    """Serve the agent as a custom endpoint."""
    async with serving(play, doors=["chat"]) as server, http(server) as plain:
        yield server, plain


def headers(conversation: str) -> dict[str, str]:
    """Return the headers of a request: those of the endpoint's configuration, and of its client."""
    return {
        "Authorization": "Bearer user_provided",
        "X-LibreChat-Conversation-Id": conversation,
        "User-Agent": "OpenAI/JS 5.12.2",
        "X-Stainless-Lang": "js",
        "X-Stainless-Retry-Count": "0",
    }


def body(*messages: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """Return the body of a request for an answer."""
    return {
        "model": "play",
        "user": "6718f2a5c1d2e3f405162738",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be kind."},
            *({"role": role, "content": content} for role, content in messages),
        ],
        **more,
    }


async def answered(plain: Http, asked: dict[str, Any], conversation: str = CONVERSATION) -> str:
    """Return the text of an answer, streamed or whole."""
    response = await plain.post("/v1/chat/completions", asked, headers(conversation))
    assert response.status_code == 200, response.text
    if not asked.get("stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    *chunks, end = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert end == "[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def titled(prompt: str) -> dict[str, Any]:
    """Return the body of a request for a title."""
    return {"model": "play", "messages": [{"role": "user", "content": prompt}], "stream": False}


@pytest.mark.parametrize("prompt", [COMPLETION, STRUCTURED, OWN], ids=["completion", "structured", "own"])
async def test_a_conversation_with_its_title(prompt: str) -> None:
    """The title is asked for under the conversation's id, and drops nothing of it."""
    async with librechat() as (server, plain):
        first = await answered(plain, body(("user", "look")))
        assert (await answered(plain, titled(prompt))).startswith("You said ")
        parts = [{"type": "text", "text": "recall"}]  # with a file LibreChat sends parts
        history = json.loads(
            await answered(plain, body(("user", "look"), ("assistant", first), ("user", parts)))
        )
        assert [message["role"] for message in history] == ["user", "assistant", "tool", "assistant"]
        assert len(server.sessions) == 1


@pytest.mark.parametrize("unset", ["", "{{LIBRECHAT_BODY_CONVERSATIONID}}", "new", "null", "undefined"])
async def test_a_conversation_without_an_id_yet(unset: str) -> None:
    """Two users whose conversations are new do not share one."""
    async with librechat() as (_, plain):
        await answered(plain, body(("user", "hello")), unset)
        assert json.loads(await answered(plain, body(("user", "recall")), unset)) == []


async def test_the_usage_comes_last() -> None:
    """LangChain reads it from the chunk without choices."""
    async with librechat() as (_, plain):
        response = await plain.post("/v1/chat/completions", body(("user", "hello")), headers(CONVERSATION))
        chunk = json.loads(response.text.split("\n\n")[-3].removeprefix("data: "))
        assert (chunk["choices"], chunk["usage"]["total_tokens"]) == ([], 10)
