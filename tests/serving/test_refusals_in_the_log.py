"""What an operator reads of a refusal: one line with the cause and the remedy, and no traceback."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bargein_server import BearerTokens
from bargein_server.guard.limits import RareLog
from live_server import echo, serving
from raw_websocket import raw, rest

TOKENS = BearerTokens({"secret": "ann"})
PROBE = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = (
    "GET /v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: bargein.v1.json\r\nAuthorization: Bearer wrong\r\n\r\n"
)
RESERVE = 8
WITH_BODY = "POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def each_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log each warning, also one that another test has caused in this minute."""

    def warning(self: RareLog, message: str, *args: object) -> None:
        self._log.warning(message, *args)

    monkeypatch.setattr(RareLog, "warning", warning)


@pytest.mark.parametrize(
    ("limits", "sent", "status", "line"),
    [
        ({}, "\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "a proxy or a scanner may send TLS"),
        ({}, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "let the proxy speak HTTP/1.1"),
        ({"authenticator": TOKENS}, HANDSHAKE, 401, "token or ticket is wrong"),
    ],
    ids=["TLS", "HTTP/2", "wrong token"],
)  # fmt: skip
async def test_a_refused_request_is_one_line(
    caplog: pytest.LogCaptureFixture, limits: dict[str, Any], sent: str, status: int, line: str
) -> None:
    """The peer gets one answer, the log one line."""
    async with serving(echo, **limits) as server:
        caplog.set_level(logging.WARNING, "uvicorn.error")
        async with raw(server, sent) as (reader, _):
            answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1
    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert line in record.getMessage()


@pytest.mark.parametrize(
    ("open_before", "status", "line"),
    [(1, 503, "connections are refused: raise --max-connections"),
     (1 + RESERVE, 503, "raise --max-connections or --max-connections-per-address")],
)  # fmt: skip
async def test_a_connection_too_many_is_one_line(
    caplog: pytest.LogCaptureFixture, open_before: int, status: int, line: str
) -> None:
    """It names the setting; a few more than the limit are accepted, for probes and for this answer."""
    async with serving(echo, max_connections=1) as server, AsyncExitStack() as stack:
        await stack.enter_async_context(server.connect())
        for _ in range(open_before - 1):
            reader, _ = await stack.enter_async_context(raw(server, PROBE))
            assert (await reader.readline()).split()[1] == b"200"
        reader, _ = await stack.enter_async_context(raw(server, HANDSHAKE))
        assert (await reader.readline()).split()[1] == b"%d" % status
    [record] = caplog.records
    assert line in record.getMessage()


async def test_both_lengths_of_a_body_are_refused() -> None:
    """A proxy in front may find another end of the body, and take the rest for a request of its own."""
    head = WITH_BODY + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    async with serving(echo) as server, raw(server, head + "3\r\nabc\r\n0\r\n\r\n") as (reader, _):
        answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"expected Content-Length or Transfer-Encoding, got both" in answer
