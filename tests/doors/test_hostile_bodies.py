"""Mutants of valid requests: a door refuses them or answers, and never fails."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from bargein_server import Output, Turn
from door_agent import play
from live_server import serving
from seeded_fuzzing import Mutator, day_and_night
from sse_client import http

CALL: dict[str, Any] = {
    "type": "tool-buy",
    "toolCallId": "c",
    "state": "approval-responded",
    "approval": {"id": "c", "approved": True},
    "input": {"a": 1},
}
DYNAMIC = {"type": "dynamic-tool", "toolName": "n", "toolCallId": "z", "state": "output-available"}
IMAGE = "data:image/png;base64,AA=="
FUNCTION = {"name": "n", "arguments": "{}"}


def spoken(role: str, text: str) -> dict[str, Any]:
    """Return a message with its text as a part."""
    return {"id": "1", "role": role, "parts": [{"type": "text", "text": text}]}


BODIES: dict[str, list[Any]] = {
    "/v1/chat/completions": [
        {
            "stream": True, "model": "m", "n": 1, "metadata": {"a": 1}, "tools": [{"type": "function"}],
            "stream_options": {"include_usage": True},
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "tool_calls": [{"id": "c", "function": FUNCTION}]},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
                {"role": "user", "content": "look"},
            ],
        },
        {
            "messages": [
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": IMAGE}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": IMAGE}},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                ]},
            ],
        },
    ],
    "/api/chat": [
        {"id": "c", "trigger": "submit-message", "extra": [1], "messages": [
            spoken("user", "hi"), {"id": "2", "role": "assistant", "parts": [CALL, DYNAMIC]},
            spoken("user", "look"),
        ]},
        {"id": "c", "messages": [{"id": "2", "role": "assistant", "parts": [CALL]}]},
        {"id": "c", "message": spoken("user", "hi"), "trigger": "regenerate-message", "messageId": "z"},
        {"id": "c", "message": {"role": "user", "parts": [
            {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": IMAGE},
        ]}},
    ],
    "/v1/ag-ui": [
        {
            "threadId": "t", "runId": "r", "protocolVersion": "1.0", "tools": [{}], "state": {},
            "resume": [{"interruptId": "a", "status": "resolved", "payload": {"approved": True}}],
            "messages": [
                {"id": "1", "role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"id": "2", "role": "assistant", "toolCalls": [{"id": "a", "function": {"name": "n"}}]},
                {"id": "3", "role": "tool", "toolCallId": "a", "content": "r"},
            ],
        },
        {"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "look"}]},
        {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "data", "value": "AA==", "mimeType": "image/png"}},
            {"type": "binary", "mimeType": "image/png", "filename": "a.png", "url": IMAGE},
        ]}]},
    ],
}  # fmt: skip
WORDS = (
    b"null", b"true", b'""', b"[]", b"{}", b"[[]]", b'"user"', b'"assistant"', b'"tool"', b'"system"',
    b'"buy"', b'"\\ud800"', b'"locate"', b'"content"', b'"parts"', b'"messages"',
)  # fmt: skip


class Player:
    """The agent of the doors, for any files."""

    takes_attachments = True

    def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        """Answer a turn."""
        return play(turn)


@day_and_night
@pytest.mark.parametrize("path", BODIES)
async def test_no_body_breaks_a_door(path: str, night: bool) -> None:
    """Each gets an answer, or a refusal with its reason; the server goes on."""
    seed = os.environ.get("BARGEIN_FUZZ_SEED") or (secrets.token_hex(4) if night else "day")
    mutator = Mutator(Random(seed), [json.dumps(body).encode() for body in BODIES[path]], WORDS)
    async with serving(Player(), doors=["chat", "ai-sdk", "ag-ui"]) as server, http(server) as client:
        for n in range(3000 if night else 150):
            body = mutator.mutant()
            response = await client.post(path, body, {"X-Conversation-Id": f"c{n % 5}"})
            assert response.status_code < 500, (seed, body)
            if response.status_code != 200:
                assert response.json(), (seed, body)
        assert (await client.request("GET", "/healthz")).status_code == 200
