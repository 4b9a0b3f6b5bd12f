"""Frames and messages of clumsy clients: each gets an answer, and the model valid messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bargein_server.endpoints.call import MAX_BODY_VALUES
from bargein_server.endpoints.doors.messages import valid_messages
from bargein_server.endpoints.doors.ui_message import UiMessage, conversation_of
from door_agent import play
from live_server import serving
from waiting import until

TOO_MANY = f"expected at most {MAX_BODY_VALUES} values, got more"


def send(request_id: str, chat: str, text: str, **more: Any) -> str:
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}
    return json.dumps({"type": "send", "requestId": request_id, "id": chat, "messages": [message], **more})


async def received(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(await socket.recv())
    return frame


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"messageId": 5}, "Expected `str | null`, got `int` - at `$.messageId`"),
        ({"body": None}, "Expected `object`, got `null` - at `$.body`"),
        ({"messages": ["hello"]}, "Expected `object`, got `str` - at `$.messages[0]`"),
        (
            {"body": {"list": [0] * MAX_BODY_VALUES * 3}},
            f"expected at most {MAX_BODY_VALUES} values, got more",
        ),
    ],
    ids=["an id", "no body", "a message", "too many values"],
)
async def test_a_wrong_frame_is_answered(wrong: dict[str, Any], reason: str) -> None:
    """Its client would wait for ever."""
    async with serving(play, doors=["ai-sdk"], max_frame_bytes=2**20) as server:
        async with connect(f"ws://127.0.0.1:{server.port}/api/chat", proxy=None) as socket:
            await socket.send(send("r", "c", "hello", **wrong))
            assert await received(socket) == {"type": "error", "requestId": "r", "errorText": reason}
            await socket.send(send("r", "c", "hello"))
            assert (await received(socket))["chunk"]["type"] == "start"


async def test_an_id_that_is_in_use() -> None:
    """The stream that has it goes on alone, and its abort is its own."""
    async with serving(play, doors=["ai-sdk"]) as server:
        async with connect(f"ws://127.0.0.1:{server.port}/api/chat", proxy=None) as socket:
            await socket.send(send("r", "first", "count"))
            frames = [await received(socket) for _ in range(4)]
            await socket.send(send("r", "second", "count"))
            frames += [await received(socket) for _ in range(20)]
            assert [frame["sequence"] for frame in frames] == list(range(24))
            [host] = list(server.sessions)
            await socket.send(json.dumps({"type": "abort", "requestId": "r"}))
            await until(lambda: not host.core.busy, "the interrupt")


def test_ids_of_calls_that_repeat() -> None:
    """Each call has the result that follows it."""

    def called(output: str) -> UiMessage:
        part = {"type": "tool-look", "toolCallId": "c", "state": "output-available", "output": output}
        return UiMessage("assistant", parts=[part])

    user = UiMessage("user", content="look")
    found = conversation_of([user, called("sky"), user, called("sea")])
    assert [message["content"] for message in found if message["role"] == "tool"] == ["sky", "sea"]


def test_messages_of_the_assistant_in_a_row() -> None:
    """They are one, because user and assistant alternate."""
    given: list[dict[str, Any]] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "assistant", "tool_calls": [{"id": "c", "name": "look", "arguments": "{}"}]},
    ]
    user, answer, result, last = valid_messages(given)
    assert (user["content"], answer["content"]) == ("hello", "One.\n\nTwo.")
    assert [call["id"] for call in answer["tool_calls"]] == [result["tool_call_id"]] == ["c"]
    assert last == {"role": "assistant", "content": "[no text]"}


def test_a_text_that_is_none() -> None:
    """It is left out."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": None}, {"type": "text", "text": "Hi."}]
    assert UiMessage("user", parts=parts).text == "Hi."
    [_, answer] = conversation_of([UiMessage("user", content="?"), UiMessage("assistant", parts=parts)])
    assert answer["content"] == "Hi."
