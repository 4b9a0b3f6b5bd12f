"""ASGI applications on our WebSocket protocol, beside uvicorn's own implementation where both agree."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from bargein_server import BargeinProtocol
from bargein_server.transport.asgi_session import MAX_QUEUED_BYTES
from fake_transport import Bench
from raw_websocket import frame
from waiting import WAIT_S, until

Kind = Literal["ours", "uvicorn's"]
Serve = Callable[..., Any]

Endpoint = Callable[[WebSocket], Awaitable[None]]


class Served:
    """Server with one application.

    Attributes:
        server: uvicorn's.
        port: Where it listens.
    """

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port

    def connect(self, path: str = "/", **options: Any) -> Any:
        """Connect a client."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)


@asynccontextmanager
async def serving_app(app: ASGIApp, kind: Kind, **options: Any) -> AsyncIterator[Served]:
    """Serve an application until the block ends."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws=BargeinProtocol if kind == "ours" else "websockets-sansio",
        log_config=None, lifespan="off", interface="asgi3", timeout_graceful_shutdown=1, **options,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    try:
        await until(lambda: server.started or task.done(), "the server")
        yield Served(server, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


def route(endpoint: Endpoint) -> Starlette:
    """Return an application with one endpoint."""
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end of a connection; return its code and its reason."""
    async with asyncio.timeout(WAIT_S):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


@pytest.fixture(params=["ours", "uvicorn's"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """The implementation."""
    kind: Kind = request.param
    return kind


async def echoing(websocket: WebSocket) -> None:
    """Echo."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await websocket.send({**message, "type": "websocket.send"})


HIGH_WATER_OF_ASYNCIO = 64 * 1024  # of uvicorn's own implementation; ours is lower


# --- both -----------------------------------------------------------------------------------------


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
    assert ours["headers"][b"x-latin"] == b"caf\xe9"


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


# --- ours alone -----------------------------------------------------------------------------------


async def test_an_application_that_fails_in_its_denial_is_a_500() -> None:
    """No part of the denial has been sent yet."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 400, "headers": []})
        raise ValueError("of the test")

    bench = Bench(app)
    assert (await bench.open()).startswith(b"HTTP/1.1 500 ")
    bench.lose()


@pytest.mark.parametrize("raises", [ValueError, SystemExit])
async def test_an_application_that_fails_closes_with_1011(raises: type[BaseException]) -> None:
    """Its failure ends its connection and nothing else."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        raise raises("of the test")

    async with serving_app(route(endpoint), "ours") as served:
        async with served.connect() as client, served.connect() as other:
            await client.send("x")
            assert await closed(client) == (1011, "")
            assert await other.ping()


async def test_an_application_that_returns_closes_with_1000() -> None:
    """After everything that it sent."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("last")

    async with serving_app(route(endpoint), "ours") as served, served.connect() as client:
        assert await client.recv() == "last"
        assert await closed(client) == (1000, "")


async def test_a_client_that_vanishes_is_1006_and_stays_so() -> None:
    """RFC 6455 section 7.1.5; `receive` returns it as often as it is asked."""
    ends: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        ends.extend([await receive(), await receive()])

    async with serving_app(app, "ours") as served, served.connect() as client:
        client.transport.abort()
        await until(lambda: ends, "the disconnect")
    assert ends == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] * 2


async def test_a_client_that_leaves_in_the_handshake() -> None:
    """The application is given the disconnect, and nothing is logged as a failure."""
    bench: Bench
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        bench.lose()
        seen.append(await receive())
        await send({"type": "websocket.accept"})
        seen.append("not reached")

    bench = Bench(app)
    await bench.open()
    assert seen == ["websocket.connect", {"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    assert bench.state.tasks == set()


async def test_an_application_that_takes_nothing_stops_its_peer() -> None:
    """Beyond a bound the peer is not read; it is again when the application has taken its messages."""
    go = asyncio.Event()
    taken = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await go.wait()
            taken += 1

    bench = Bench(app, ws_max_queue=4)
    await bench.open()
    for _ in range(5):
        assert not bench.transport.is_paused()
        bench.read(frame(1, b"x"))
        await bench.settle()
    assert bench.transport.is_paused()
    go.set()
    await bench.settle()
    assert not bench.transport.is_paused()
    assert taken == 5
    go.clear()
    bench.read(frame(2, bytes(MAX_QUEUED_BYTES // 2)))
    bench.read(frame(2, bytes(MAX_QUEUED_BYTES // 2)))
    await bench.settle()
    assert bench.transport.is_paused()
    bench.lose()
    go.set()
    await bench.settle()
    assert bench.state.tasks == set()


@pytest.mark.virtual_time
async def test_a_peer_that_is_not_read_is_not_taken_for_dead() -> None:
    """Its pong waits behind messages that the application has not taken."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (await receive())["type"] == "websocket.receive":
            pass

    bench = Bench(app, ws_max_queue=1, ws_ping_interval=20, ws_ping_timeout=5)
    await bench.open()
    bench.read(frame(1, b"x"))
    await asyncio.sleep(60)
    assert not bench.transport.is_closing()
    go.set()
    await asyncio.sleep(6)
    assert bench.transport.is_aborted()
    bench.lose()


async def test_the_close_of_an_application_that_took_nothing_is_completed() -> None:
    """The peer's close frame is read behind the messages that wait."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        bench.read(frame(1, b"x") * 10)
        await send({"type": "websocket.close", "code": 4000})

    bench = Bench(app, ws_max_queue=1)
    await bench.open()
    assert not bench.transport.is_paused()
    bench.read(frame(8, b"\x0f\xa0"))
    assert bench.transport.is_closing()
    bench.lose()


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.send", "text": "x"}],
        [{"type": "websocket.http.response.body", "body": b""}],
        [{"type": "websocket.http.response.start", "status": 101}],
        [{"type": "websocket.accept"}, {"type": "websocket.accept"}],
        [{"type": "websocket.accept"}, {"type": "websocket.close"}, {"type": "websocket.send", "text": "x"}],
        [{"type": "websocket.close"}, {"type": "websocket.accept"}],
    ],
)
async def test_a_message_out_of_order_is_an_error_of_the_application(messages: list[Message]) -> None:
    """It is raised where it was sent."""
    errors: list[RuntimeError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        *fine, wrong = messages
        for message in fine:
            await send(message)
        try:
            await send(wrong)
        except RuntimeError as error:
            errors.append(error)

    bench = Bench(app)
    await bench.open()
    assert len(errors) == 1
    bench.lose()


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (999, ""), (1000, "x" * 200)])
async def test_a_close_that_no_frame_can_carry(code: int, reason: str) -> None:
    """A code that may not be sent is the application's error; a reason that is too long is cut."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(code, reason)

    async with serving_app(route(endpoint), "ours") as served, served.connect() as client:
        expected = (1000, "x" * 123) if reason else (1011, "")
        assert await closed(client) == expected


async def test_a_server_that_stops_in_a_handshake_is_a_503() -> None:
    """The client may try another one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    bench = Bench(app)
    await bench.open()
    bench.protocol.shutdown()
    assert bench.transport.take().startswith(b"HTTP/1.1 503 ")
    await bench.settle()
    assert bench.state.tasks == set()
    bench.lose()


async def test_bargein_beside_an_endpoint_of_another_application() -> None:
    """One server, one protocol class, both kinds of connections."""
    from bargein_server import create_app
    from live_server import echo

    app = Starlette(routes=[WebSocketRoute("/plain", echoing), Mount("/", app=create_app(echo))])
    async with serving_app(app, "ours") as served:
        async with served.connect("/plain") as plain, served.connect("/v1/session") as session:
            await plain.send("hello")
            await session.send('{"type": "input.text", "id": "i", "text": "hi"}')
            assert await plain.recv() == "hello"
            while '"turn.ended"' not in await session.recv():
                pass
