"""Files of inputs, from both clients' frames to the agent, over every endpoint, and over a restart."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bargein_client import InputRejected, TooLarge, connect
from bargein_protocol import Attachment
from bargein_server import NotAnAgent, Output, Turn, create_app
from live_server import echo, serving

PNG = Attachment(media_type="image/png", data=b"\x89PNG" + bytes(range(256)), name="sky.png")


JSON_BODY = {"Content-Type": "application/json"}


class Viewer:
    """Agent that lists its files, those of the input and those of the conversation."""

    takes_attachments = ("image/*",)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        for file in turn.attachments:
            yield f"{file.media_type} {file.name} {len(file.data)} {file.data[:4]!r}. "
        contents = [message["content"] for message in turn.history.messages(attachments=True)]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        yield f"{sum(part['type'] == 'image_url' for part in parts)} in all"


@pytest.mark.parametrize("way", [{}, {"codec": "msgpack"}, {"transport": "sse"}])
async def test_a_file_reaches_the_agent(way: dict[str, Any]) -> None:
    """Every byte of it, in each codec, also in the next turn."""
    async with serving(Viewer()) as server, connect(f"ws://127.0.0.1:{server.port}/v1/session", **way) as ann:
        assert ann.limits is not None
        assert ann.limits.attachments == ["image/*"]
        turn = ann.send("What is this?", attachments=[PNG])
        assert (await turn.ended()).heard.text == f"image/png sky.png 260 {PNG.data[:4]!r}. 1 in all"
        turn = ann.send("And now?")
        assert (await turn.ended()).heard.text == "1 in all"


async def test_a_file_that_is_not_taken_is_refused() -> None:
    """With a code of its own, and by the client itself when there are too many."""
    async with serving(echo) as server, connect(f"ws://127.0.0.1:{server.port}/v1/session") as ann:
        turn = ann.send("What is this?", attachments=[PNG])
        with pytest.raises(InputRejected) as refused:
            await turn.accepted()
        assert (refused.value.code, refused.value.retryable) == ("unsupported_attachment", False)
        with pytest.raises(TooLarge, match="at most 8 attachments, got 9"):
            ann.send("What are these?", attachments=[PNG] * 9)
        with pytest.raises(TooLarge, match="bytes"):
            ann.send("x", attachments=[Attachment(media_type="image/png", data=bytes(300_000))])


async def test_a_request_may_have_files() -> None:
    """`POST /v1/turns` takes them as base64."""
    body = {
        "text": "What is this?",
        "attachments": [{"media_type": "image/png", "data": base64.b64encode(PNG.data).decode()}],
    }
    async with serving(Viewer()) as server:
        status, _, answer = await server.request("/v1/turns", "POST", json.dumps(body).encode(), **JSON_BODY)
        assert status == 200
        assert b"image/png  260" in answer


async def test_files_are_part_of_a_stored_conversation(tmp_path: Path) -> None:
    """After a restart the agent still has them, and lists of messages name them."""
    url = f"sqlite:///{tmp_path}/kept.db"
    png = {"media_type": "image/png", "data": base64.b64encode(PNG.data).decode(), "name": "sky.png"}
    async with serving(Viewer(), store=url) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        opened = await client.until("session.opened")
        await client.send({"type": "input.text", "id": "i", "text": "Look", "attachments": [png]})
        seq = (await client.until("turn.ended"))["seq"]
    cursor = {"epoch": opened["epoch"], "seq": seq}
    resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    async with serving(Viewer(), store=url) as server, server.connect() as client:
        await client.send({"type": "session.open", "resume": resume})
        assert (await client.until("session.opened"))["resumed"]
        await client.send({"type": "input.text", "id": "j", "text": "And now?"})
        assert (await client.until("turn.ended"))["heard"]["text"] == "1 in all"


def test_a_wrong_declaration_stops_the_start() -> None:
    """The message says what is expected."""

    class Wrong(Viewer):
        takes_attachments = ("png",)

    with pytest.raises(NotAnAgent, match='expected media types such as "image/png"'):
        create_app(Wrong())
