"""Authenticators that fail, and clients that guess."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from bargein_server import AccessRequest
from bargein_server.guard.admission import FAILURES_PER_S, Admission, Refused, rare_log
from bargein_server.settings import Settings
from live_server import WireKind, echo, serving
from sse_client import http


class Custom:
    """An authenticator as its author may write it."""

    def __init__(self, principal_of: Callable[[str], Any]) -> None:
        self.principal_of = principal_of


def expired(credential: str) -> str | None:
    raise ValueError(f"expired: {credential}")


def exits(credential: str) -> str | None:
    raise SystemExit(credential)


async def asynchronous(credential: str) -> str | None:
    return "ann"


WRONG: dict[str, Callable[[str], Any]] = {
    "raises": expired,
    "exits": exits,
    "is asynchronous": asynchronous,
    "returns a number": lambda credential: 7,
    "returns an empty text": lambda credential: "",
}


@pytest.mark.parametrize("kind", WRONG)
async def test_an_authenticator_that_fails_refuses(
    wire: WireKind, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401 over HTTP and before the upgrade, 4401 for a first frame; one line without the secret."""
    caplog.set_level(logging.WARNING, "bargein.server")
    rare_log._next.clear()
    bearer = {"Authorization": "Bearer hidden"}
    async with serving(echo, wire, authenticator=Custom(WRONG[kind])) as server, http(server) as client:
        assert (await client.post("/v1/turns", {"text": "x"}, bearer)).status_code == 401
        assert (await client.post("/v1/turns", {"text": "x", "auth": "hidden"})).status_code == 401
        assert (await client.post("/v1/tickets", {}, bearer)).status_code == 401
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": "hidden"})
            assert (await socket.closed())[0] == 4401
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("bargein")]
    assert len(lines) == 1
    assert "hidden" not in caplog.text
    assert "principal_of()" in lines[0]


async def test_wrong_credentials_have_a_rate_of_their_own() -> None:
    """Beyond it an address must wait, also with a right one; other addresses need not."""
    now = 0.0
    admission = Admission(
        Settings(), Custom(lambda credential: "ann" if credential == "right" else None), (), lambda: now
    )

    async def status(token: str, address: str = "192.0.2.1") -> int:
        request = AccessRequest(path="/", headers={"authorization": f"Bearer {token}"})
        try:
            await admission.authenticate(request, address)
        except Refused as refused:
            return refused.status
        return 200

    assert [await status("wrong") for _ in range(2 * FAILURES_PER_S)] == [401] * 2 * FAILURES_PER_S
    assert (await status("wrong"), await status("right"), await status("right", "192.0.2.2")) == (
        429,
        429,
        200,
    )
    headers = {"sec-websocket-protocol": "x"}
    caller = admission.enter(headers, "ws", (), "192.0.2.1", "")
    assert not caller.authenticate("right")
    now = 1.0
    assert [await status("right") for _ in range(100)] == [200] * 100
    assert caller.authenticate("right")
