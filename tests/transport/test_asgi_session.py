"""ASGI applications on our WebSocket protocol: flow control, failures, and the ends of connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from bargein_server.transport.asgi_session import MAX_QUEUED_BYTES
from fake_transport import Bench
from plain_server import closed, echoing, route, serving_app
from raw_websocket import frame
from waiting import until


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
