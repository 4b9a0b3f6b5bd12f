"""A server under a path of its proxy."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from bargein_server import create_app
from bargein_server.addresses import BadRootPath
from bargein_server.app import UnderPrefix
from bargein_server.launcher import Launcher
from live_server import echo


@pytest.mark.parametrize("sent", ["", "/chat"], ids=["stripped", "kept"])
def test_paths_with_and_without_the_prefix(sent: str) -> None:
    """Both are served, and both give the cookie the path that the browser sees."""
    with TestClient(UnderPrefix(create_app(echo), "/chat")) as client:
        assert 'src="static/page/main.js"' in client.get(f"{sent}/").text
        assert client.get(f"{sent}/static/page/main.js").status_code == 200
        assert client.get(f"{sent}/healthz").json() == {"status": "ok"}
        with client.websocket_connect(f"{sent}/v1/session") as socket:
            socket.send_json({"type": "session.open"})
            assert socket.receive_json()["type"] == "session.opened"
        answer = client.post(f"{sent}/v1/turns", json={"text": "hello"}, headers={"Bargein-Cookie": "/"})
        assert "Path=/chat/v1/sessions/" in answer.headers["set-cookie"]
        assert client.get(f"{sent}/v1/openapi.json").json()["servers"] == [{"url": "/chat"}]


def test_the_page_is_at_the_folder() -> None:
    """Its links are relative, so the path without a slash leads to the one with it."""
    with TestClient(UnderPrefix(create_app(echo), "/a/b")) as client:
        redirect = client.get("/a/b", follow_redirects=False)
        assert (redirect.status_code, redirect.headers["location"]) == (307, "/a/b/")
        assert client.get("/a/bc").status_code == 404


@pytest.mark.parametrize("path", ["chat", "//evil.example", "/a//b", "/a?b", "/ä", "/a b", "https://x/"])
def test_a_root_path_is_a_path(path: str) -> None:
    """Anything else is an error that names the expected form."""
    with pytest.raises(BadRootPath, match="expected a root path such as /chat"):
        Launcher(echo, root_path=path)
