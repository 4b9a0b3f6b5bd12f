"""Starlette's own test client, and an application that is served twice or mounted."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from bargein_server import create_app
from live_server import counting, echo


def talk_once(client: TestClient, path: str = "/v1/session") -> str:
    """Ask once and return the answer."""
    with client.websocket_connect(path) as socket:
        socket.send_json({"type": "input.text", "id": "i", "text": "hello"})
        while (frame := socket.receive_json())["type"] != "turn.ended":
            pass
        return str(frame["heard"]["text"])


@pytest.mark.parametrize("times", [1, 2])
def test_an_application_outlives_its_event_loop(times: int) -> None:
    """Without a lifespan each connection has a loop of its own; with one, each client has."""
    app = create_app(echo)
    client = TestClient(app)
    for _ in range(times):
        assert talk_once(client) == "hello|[]"
    for _ in range(times):
        with TestClient(app) as entered:
            assert talk_once(entered) == "hello|[]"


def test_leaving_in_mid_turn_is_quiet() -> None:
    """The client goes while the agent speaks."""
    with TestClient(create_app(counting)) as client:
        for _ in range(5):
            with client.websocket_connect("/v1/session") as socket:
                socket.send_json({"type": "input.text", "id": "i", "text": "hello"})
                while socket.receive_json()["type"] != "text.delta":
                    pass


def test_a_mounted_application_works() -> None:
    """Under another path, without a lifespan of its own."""
    outer = Starlette(routes=[Mount("/agents", create_app(echo))])
    with TestClient(outer) as client:
        assert talk_once(client, "/agents/v1/session") == "hello|[]"
