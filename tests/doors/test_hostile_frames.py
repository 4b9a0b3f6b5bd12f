"""Mutants of valid frames: the Realtime door and the AI SDK's socket never fail on one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from random import Random
from typing import Any

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from door_agent import play
from live_server import serving
from realtime_sound import in_pieces, listening, sound
from seeded_fuzzing import Mutator, day_and_night
from waiting import until

TEXT = {"type": "input_text", "text": "look"}
EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "event_id": "e", "session": {
        "type": "realtime", "instructions": "x", "tools": [{"type": "function", "name": "n"}],
        "max_output_tokens": 5, "tool_choice": "none", "output_modalities": ["text"],
        "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.5}},
                  "output": {"format": {"type": "audio/pcmu"}, "voice": "alloy"}}}},
    {"type": "session.update", "session": {
        "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}}},
    {"type": "conversation.item.create", "previous_item_id": "root", "item": {
        "id": "a", "type": "message", "role": "user", "content": [TEXT]}},
    {"type": "conversation.item.create", "item": {
        "id": "b", "type": "message", "role": "assistant",
        "content": [{"type": "output_audio", "transcript": "yes"}]}},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "system", "content": [TEXT]}},
    {"type": "conversation.item.create", "item": {
        "type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}},
    {"type": "conversation.item.create", "item": {
        "type": "function_call_output", "call_id": "c", "output": "r"}},
    {"type": "conversation.item.create", "item": {
        "type": "mcp_approval_response", "approval_request_id": "a", "approve": True}},
    {"type": "conversation.item.retrieve", "item_id": "a"},
    {"type": "conversation.item.delete", "item_id": "a"},
    {"type": "conversation.item.truncate", "item_id": "b", "content_index": 0, "audio_end_ms": 5},
    {"type": "response.create"},
    {"type": "response.create", "response": {
        "conversation": "none", "input": [{"type": "item_reference", "id": "a"}], "metadata": {"a": "b"}}},
    {"type": "response.cancel", "response_id": "r"},
    {"type": "response.cancel"},
    {"type": "input_audio_buffer.append", "audio": next(in_pieces(sound(20, True)))},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]  # fmt: skip
USER = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "look"}]}
FRAMES: list[dict[str, Any]] = [
    {"type": "send", "requestId": "r", "id": "c", "trigger": "submit-message", "messages": [USER],
     "headers": {"a": "b"}, "body": {"x": 1}},
    {"type": "resume", "requestId": "r", "id": "c", "lastSequence": 1},
    {"type": "abort", "requestId": "r"},
]  # fmt: skip
WORDS = (
    b"null", b"true", b'""', b"[]", b"{}", b'"user"', b'"assistant"', b'"system"', b'"item"', b'"type"',
    b'"\\ud800"', b'"buy"', b'"locate"', b'"count"', b'"response.create"', b'"audio"', b'"a"', b'"b"',
)  # fmt: skip

_SCHEMA: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
_FAULTS = (1006, 1011, 4500)
"""Codes of a close that only a fault of the server has."""


async def flood(url: str, mutator: Mutator, frames: int, seed: str, valid: bool) -> None:
    """Send mutants; a connection that is closed with a reason is followed by another."""
    sent = 0
    while sent < frames:
        async with connect(url) as client:
            try:
                while sent < frames:
                    frame = mutator.mutant().decode("utf-8", "replace")
                    sent += 1
                    await client.send(frame)
                    await read(client, valid, (seed, frame))
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else 1006
                assert code not in _FAULTS, (seed, frame)


async def read(client: ClientConnection, valid: bool, case: object) -> None:
    """Read what has come; each event follows the schema, apart from the client's own configuration."""
    pong = asyncio.ensure_future(await client.ping())
    while True:
        coming = asyncio.ensure_future(client.recv())
        await asyncio.wait([coming, pong], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            return
        event = json.loads(coming.result())
        if valid and not event["type"].startswith("session."):
            assert _SCHEMA.validate_python(event), case


@day_and_night
@pytest.mark.parametrize("door", ["realtime", "speech", "ai-sdk"])
async def test_no_frame_breaks_a_door(door: str, night: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Each gets an answer or none; the server logs no fault, and serves the next client."""
    caplog.set_level(logging.ERROR)
    seed = os.environ.get("BARGEIN_FUZZ_SEED") or (secrets.token_hex(4) if night else "day")
    corpus, path = (FRAMES, "/api/chat") if door == "ai-sdk" else (EVENTS, "/v1/realtime")
    mutator = Mutator(Random(seed), [json.dumps(each).encode() for each in corpus], WORDS)
    voice = listening("hello") if door == "speech" else None
    doors = ["ai-sdk"] if door == "ai-sdk" else ["realtime"]
    async with serving(play, doors=doors, voice=voice, away_s=0.05) as server:
        url = f"ws://127.0.0.1:{server.port}{path}"
        await flood(url, mutator, 5000 if night else 300, seed, valid=door != "ai-sdk")
        assert not caplog.records, (seed, caplog.text)
        await until(lambda: not any(host.core.busy for host in server.sessions), "the end of all turns")
