"""Servers other than `bargein-server`: what they leave out, the application does."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import InvalidStatus

from bargein_server import BearerTokens, Settings, create_app
from live_server import echo
from plain_server import closed, serving_app

LIMIT = 4096


class WithoutExtensions:
    """An application on a server that offers no extension of ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop("extensions", None)
        await self._app(scope, receive, send)


async def test_the_limit_of_a_frame_holds_under_any_server() -> None:
    """Uvicorn itself accepts 16 MiB."""
    app = create_app(echo, Settings(max_frame_bytes=LIMIT))
    async with serving_app(app, "uvicorn's") as served, served.connect("/v1/session") as client:
        frame = {"type": "input.text", "id": "in_1", "text": ""}
        room = LIMIT - len(json.dumps(frame))
        await client.send(json.dumps({**frame, "text": "x" * room}))
        while json.loads(await client.recv())["type"] != "turn.ended":
            pass
        await client.send(json.dumps({**frame, "text": "x" * (room + 1)}))
        assert (await closed(client))[0] == 1009


@pytest.mark.parametrize("path", ["/v1/session", "/nowhere"])
async def test_a_refusal_without_the_denial_extension(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is a plain 403, and no error of the server."""
    caplog.set_level(logging.WARNING)
    app = WithoutExtensions(create_app(echo, authenticator=BearerTokens({"secret": "ann"})))
    async with serving_app(app, "uvicorn's") as served:
        with pytest.raises(InvalidStatus) as refused:
            async with served.connect(path, additional_headers={"Authorization": "Bearer wrong"}):
                pass
    assert refused.value.response.status_code == 403
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
