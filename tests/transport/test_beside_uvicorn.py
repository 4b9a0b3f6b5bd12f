"""ASGI applications behave on our WebSocket protocol as on uvicorn's own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import InvalidStatus

from plain_server import Kind, closed, echoing, route, serving_app
from raw_websocket import MAJOR, frame
from waiting import until


@pytest.fixture(params=["ours", "uvicorn's"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """The implementation."""
    kind: Kind = request.param
    return kind


HIGH_WATER_OF_ASYNCIO = 64 * 1024  # of uvicorn's own implementation; ours is lower


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_go_both_ways(kind: Kind, compression: Any) -> None:
    """Text, bytes, empty, large, in fragments; with compression and without."""
    async with serving_app(route(echoing), kind) as served:
        async with served.connect(compression=compression, max_size=None) as client:
            for message in ("hello", b"\x00\xff", "", b"", "ü" * 50_000, bytes(300_000)):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "pieces"])
            assert await client.recv() == "in three pieces"
            assert bool(client.protocol.extensions) is (compression is not None)


async def test_many_messages_keep_their_order(kind: Kind) -> None:
    """More than wait for an application."""
    async with serving_app(route(echoing), kind) as served, served.connect() as client:
        for number in range(500):
            await client.send(str(number))
        assert [await client.recv() for _ in range(500)] == [str(number) for number in range(500)]


async def test_the_scope_is_the_same() -> None:
    """Path, headers and the rest of the scope, under a root path."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        await WebSocket(scope, receive, send).accept("b")
        await WebSocket(scope, receive, send).close()

    kinds: tuple[Kind, ...] = ("ours", "uvicorn's")
    for kind in kinds:
        async with serving_app(app, kind, root_path="/root") as served:
            async with served.connect(
                "/p%C3%A4th/x?q=1&r=%20", subprotocols=["a", "b"], compression=None,
                additional_headers={"X-One": "1", "X-Latin": "caf\xe9"}, user_agent_header="test",
            ) as client:  # fmt: skip
                assert client.subprotocol == "b"
    ours, theirs = scopes
    assert ours.pop("extensions").keys() == {"websocket.http.response", "bargein.protocol"}
    assert theirs.pop("extensions").keys() == {"websocket.http.response"}
    for scope in scopes:
        # These differ from one connection to the next.
        headers = dict(scope["headers"])
        del headers[b"host"], headers[b"sec-websocket-key"]
        scope.update(headers=headers, client=None, server=None)
    assert ours == theirs
    assert ours["path"] == "/root/päth/x"
    # The client of websockets sends UTF-8 before version 17.
    assert ours["headers"][b"x-latin"] == "café".encode("latin-1" if MAJOR >= 17 else "utf-8")


async def test_headers_of_the_application_and_of_the_server_are_sent(kind: Kind) -> None:
    """A cookie twice, and the server's own."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(headers=[(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")])
        await websocket.close()

    async with serving_app(route(endpoint), kind, headers=[("X-Server", "s")]) as served:
        async with served.connect() as client:
            headers = client.response.headers
            assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
            assert headers["X-Server"] == "s"
            if kind == "ours":  # an older uvicorn sends its own twice
                assert len(headers.get_all("Date")) == 1


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (3000, "a" * 123), (4999, "ü" * 61)]
)
async def test_a_close_of_the_application(kind: Kind, code: int, reason: str) -> None:
    """Its code and reason reach the client."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(code, reason)

    async with serving_app(route(endpoint), kind) as served, served.connect() as client:
        assert await closed(client) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "bye"), (4321, "ü")])
async def test_a_close_of_the_client(kind: Kind, code: int, reason: str) -> None:
    """Its code and reason reach the application."""
    ends: list[Message] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        ends.append(await websocket.receive())

    async with serving_app(route(endpoint), kind) as served, served.connect() as client:
        await client.close(code, reason)
        await until(lambda: ends, "the disconnect")
    assert ends == [{"type": "websocket.disconnect", "code": code, "reason": reason}]


async def test_a_close_frame_without_a_code(kind: Kind) -> None:
    """RFC 6455 section 7.1.5: 1005."""
    ends: list[Message] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        ends.append(await websocket.receive())

    async with serving_app(route(endpoint), kind) as served, served.connect() as client:
        client.transport.write(frame(8))
        await until(lambda: ends, "the disconnect")
    assert ends[0]["code"] == 1005


@pytest.mark.parametrize(
    ("data", "code"), [(frame(3), 1002), (frame(1, b"\xff"), 1007), (frame(2, bytes(2000)), 1009)]
)
async def test_a_violation_is_reported_with_the_code_that_was_sent(
    kind: Kind, data: bytes, code: int
) -> None:
    """To the client and to the application."""
    ends: list[Message] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        ends.append(await websocket.receive())

    async with serving_app(route(endpoint), kind, ws_max_size=1000) as served, served.connect() as client:
        client.transport.write(data)
        assert (await closed(client))[0] == code
        await until(lambda: ends, "the disconnect")
    assert (ends[0]["type"], ends[0]["code"]) == ("websocket.disconnect", code)


async def test_a_close_before_the_handshake_is_a_403(kind: Kind) -> None:
    """As is a path without a route."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.close(4000)

    async with serving_app(route(endpoint), kind) as served:
        for path in ("/", "/elsewhere"):
            with pytest.raises(InvalidStatus) as refused:
                await served.connect(path)
            assert refused.value.response.status_code == 403


async def test_a_denial_response(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Status, headers and body of the application's response."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"why": "x"}, 418, {"X-Why": "tea"}))

    async with serving_app(route(endpoint), kind) as served:
        with pytest.raises(InvalidStatus) as refused:
            await served.connect()
        response = refused.value.response
        assert (response.status_code, response.body) == (418, b'{"why":"x"}')
        assert response.headers["X-Why"] == "tea"
        assert response.headers["Content-Type"] == "application/json"
        await until(lambda: not served.server.server_state.tasks, "the end of the application")
    if kind == "ours":
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_application_that_fails_in_the_handshake_is_a_500(kind: Kind) -> None:
    """So is one that returns without an answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/raises":
            raise ValueError("of the test")

    async with serving_app(app, kind) as served:
        for path in ("/raises", "/returns"):
            with pytest.raises(InvalidStatus) as refused:
                await served.connect(path)
            assert refused.value.response.status_code == 500


async def test_sending_waits_for_a_client_that_does_not_read(kind: Kind) -> None:
    """The transport's buffer stays near its mark; everything arrives in the end."""
    sent = 0
    done = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        nonlocal sent
        await websocket.accept()
        await websocket.receive()
        for _ in range(1000):
            await websocket.send_bytes(bytes(20_000))
            sent += 1
        done.set()
        await websocket.receive()

    async with serving_app(route(endpoint), kind) as served, served.connect(compression=None) as client:
        client.transport.pause_reading()
        await client.send("begin")
        [protocol] = served.server.server_state.connections
        size = await until(protocol.transport.get_write_buffer_size, "a full buffer")
        assert size <= HIGH_WATER_OF_ASYNCIO + 21_000
        assert sent < 1000
        client.transport.resume_reading()
        for _ in range(1000):
            await client.recv()
        await done.wait()


async def test_a_client_that_leaves_while_the_application_sends(kind: Kind) -> None:
    """`send` raises, as it does for every message after that."""
    raised: list[type[BaseException]] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        try:
            while True:
                await websocket.send_bytes(bytes(20_000))
        except WebSocketDisconnect as error:
            raised.append(type(error))

    async with serving_app(route(endpoint), kind) as served, served.connect() as client:
        client.transport.pause_reading()
        await client.send("begin")
        [protocol] = served.server.server_state.connections
        await until(protocol.transport.get_write_buffer_size, "a full buffer")
        client.transport.abort()
        await until(lambda: raised, "the end of the application")
    assert raised == [WebSocketDisconnect]


async def test_a_stopping_server_closes_with_1012(kind: Kind) -> None:
    """Client and application are given the code."""
    ends: list[Message] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        ends.append(await websocket.receive())

    async with serving_app(route(endpoint), kind) as served:
        client = await served.connect()
        served.server.should_exit = True
        assert (await closed(client))[0] == 1012
        await until(lambda: ends, "the disconnect")
    assert ends[0]["code"] == 1012
