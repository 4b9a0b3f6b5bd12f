"""An application inside another one: no value of a request reaches the turns of other users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from bargein_server import Output, Turn, create_app
from live_server import echo

USER: ContextVar[str] = ContextVar("USER", default="nobody")


class Users:
    """Middleware that sets a variable of the request, as frameworks do for the user."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set it."""
        if scope["type"] != "lifespan":
            USER.set(dict(scope["headers"])[b"user"].decode())
        await self._app(scope, receive, send)


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Say who the user is, and find out in a task too."""

    async def child() -> str:
        return USER.get()

    yield f"{USER.get()} {await turn.spawn(child())}"


def alone() -> Starlette:
    """Return the application itself, with its lifespan."""
    app = create_app(agent)
    app.add_middleware(Users)
    return app


def mounted() -> Starlette:
    """Return another one around it, which runs no lifespan of its parts."""
    return Starlette(routes=[Mount("/", create_app(agent))], middleware=[Middleware(Users)])


def mounted_with_lifespan() -> Starlette:
    """Return another one around it, which runs its lifespan."""
    app = create_app(agent)

    def lifespan(_: Starlette) -> AbstractAsyncContextManager[None]:
        return app.router.lifespan_context(app)  # type: ignore[return-value]

    return Starlette(routes=[Mount("/", app)], middleware=[Middleware(Users)], lifespan=lifespan)


def test_the_page_and_the_cookie_are_under_the_path() -> None:
    """A mounted application serves all of it there, and the cookie's path is the one of the browser."""
    site = Starlette(routes=[Mount("/chat", create_app(echo))])
    with TestClient(site) as client:
        assert client.get("/chat", follow_redirects=False).headers["location"].endswith("/chat/")
        assert 'src="static/page/main.js"' in client.get("/chat/").text
        assert client.get("/chat/static/page/main.js").status_code == 200
        with client.websocket_connect("/chat/v1/session") as socket:
            socket.send_json({"type": "session.open"})
            assert socket.receive_json()["type"] == "session.opened"
        answer = client.post("/chat/v1/turns", json={"text": "hello"}, headers={"Bargein-Cookie": "/"})
        assert "Path=/chat/v1/sessions/" in answer.headers["set-cookie"]


@pytest.mark.parametrize("make", [alone, mounted, mounted_with_lifespan])
def test_no_turn_sees_the_user_of_a_request(make: Callable[[], Starlette]) -> None:
    """Neither of its own nor of the first one, in whose request the sessions begin to exist."""
    heard = []
    with TestClient(make()) as client:
        client.get("/readyz", headers={"user": "eve"})
        for user in ("ann", "bob", "cat", "dan"):
            with client.websocket_connect("/v1/session", headers={"user": user}) as socket:
                socket.send_json({"type": "input.text", "id": "i", "text": "hello"})
                while (frame := socket.receive_json())["type"] != "turn.ended":
                    pass
                heard.append(frame["heard"]["text"])
    assert heard == ["nobody nobody"] * 4
