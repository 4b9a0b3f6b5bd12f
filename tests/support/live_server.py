"""Real uvicorn on a free port, and a plain WebSocket client.

async with serving(agent) as server, server.connect() as client:
await client.send({"type": "input.text", "id": "i", "text": "hello"})
ended = await client.until("turn.ended")
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from msgspec import msgpack
from websockets.asyncio.client import ClientConnection, connect

from bargein_server import (
    Agent,
    Authenticator,
    HistorySource,
    Output,
    PageConfiguration,
    Settings,
    Turn,
    create_app,
)
from bargein_server.app import SESSION_PATH, shut_down_sessions
from bargein_server.cluster.node import Node
from bargein_server.cluster.place import Place
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.serving.server import Server, listening_socket, uvicorn_config
from bargein_server.stores.interface import Store
from bargein_server.voice.interfaces import VoiceParts
from waiting import WAIT_S, until

WireKind = Literal["transport", "asgi"]
Frame = dict[str, Any]


class RawClient:
    """Plain client that exchanges JSON, or MessagePack if negotiated.

    Attributes:
        frames: What was received, oldest first.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        packed = socket.subprotocol == "bargein.v1.msgpack"
        self._encode: Callable[[Frame], str | bytes] = msgpack.encode if packed else json.dumps
        self._decode: Callable[[Any], Frame] = msgpack.decode if packed else json.loads

    async def send(self, *events: Frame | str | bytes) -> None:
        """Send events; text and bytes go as they are."""
        for event in events:
            await self.socket.send(self._encode(event) if isinstance(event, dict) else event)

    async def receive(self, within_s: float = WAIT_S) -> Frame:
        """Return the next event."""
        async with asyncio.timeout(within_s):
            frame = self._decode(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def until(self, kind: str, **fields: Any) -> Frame:
        """Return the next such event; events before it are kept in `frames`."""
        while True:
            frame = await self.receive()
            if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def closed(self) -> tuple[int, str]:
        """Wait until the server has closed; returns the code and the reason."""
        async with asyncio.timeout(WAIT_S):
            await self.socket.wait_closed()
        return self.socket.close_code or 0, self.socket.close_reason or ""


async def request(
    port: int, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send an HTTP request; return status, headers in lower case, and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        headers = {"Host": f"127.0.0.1:{port}", **headers}
        lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(WAIT_S):
            head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, content


class Serving:
    """A server that runs.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, server: Server, app: Any, port: int) -> None:
        self.server = server
        self.app = app
        self.port = port

    @property
    def url(self) -> str:
        """Where sessions are."""
        return f"ws://127.0.0.1:{self.port}{SESSION_PATH}"

    @property
    def node(self) -> Node:
        """Its place among other servers."""
        node: Node = self.app.state.node
        return node

    @property
    def sessions(self) -> SessionRegistry:
        """The sessions; made with the first connection."""
        sessions: SessionRegistry = self.app.state.sessions
        return sessions

    async def request(
        self, path: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send an HTTP request; return status, headers in lower case, and body."""
        return await request(self.port, path, method, body, **headers)

    @asynccontextmanager
    async def connect(
        self, subprotocols: Sequence[str] | None = ("bargein.v1.json",), **options: Any
    ) -> AsyncIterator[RawClient]:
        """Connect a plain client."""
        async with connect(
            self.url,
            subprotocols=subprotocols,  # type: ignore[arg-type]
            compression=None,
            max_size=2**24,
            proxy=None,
            **options,
        ) as socket:
            try:
                yield RawClient(socket)
            finally:
                socket.transport.abort()  # no closing handshake: it would wait behind unread frames


@asynccontextmanager
async def serving(
    agent: Agent,
    wire: WireKind = "transport",
    *,
    authenticator: Authenticator | None = None,
    origins: Sequence[str] = (),
    listener: socket.socket | None = None,
    store: str | Store | None = None,
    history: HistorySource | None = None,
    place: Place | None = None,
    doors: Collection[Any] = (),
    voice: VoiceParts | None = None,
    page: PageConfiguration | None = None,
    **settings: Any,
) -> AsyncIterator[Serving]:
    """Serve an agent in this event loop until the block ends.

    Args:
        agent: The agent.
        wire: `transport` as `bargein-server` does it, or `asgi` as any other server would.
        authenticator: Who may come in.
        origins: Web origins that may come in.
        listener: Where to listen, instead of a socket of our own.
        store: Where conversations are kept.
        history: The application's own history.
        place: Its place among other servers that share the sessions.
        doors: Other protocols to serve.
        voice: Parts that make it hear and speak.
        page: Appearance of the chat page.
        settings: The limits.
    """
    limits = Settings(**{"drain_s": 0.0, **settings})
    app = create_app(
        agent,
        limits,
        authenticator=authenticator,
        origins=origins,
        store=store,
        history=history,
        doors=doors,
        voice=voice,
        page=page,
    )
    config = uvicorn_config(app, limits, "127.0.0.1", 0, "critical")
    if wire == "asgi":
        config.http, config.ws = "h11", "websockets-sansio"
    ports: list[int] = []
    server = Server(config, lambda: shut_down_sessions(app), ports.append)
    metrics = app.state.metrics.text if app.state.metrics is not None else None
    node = app.state.node = Node(place, server.adopt, app, metrics) if place is not None else None
    # Not `serve()`, which takes the process's signal handlers.
    task = asyncio.create_task(
        server._serve([listener or listening_socket("127.0.0.1", 0, limits.stalled_s)])
    )
    try:
        await until(lambda: ports or task.done(), "the server")
        if node is not None:
            node.start(app.state.sessions, app.state.admission)
        yield Serving(server, app, ports[0])
    finally:
        server.should_exit = True
        await task
        if node is not None:
            await node.stop()


async def counting(turn: Turn) -> AsyncIterator[Output]:
    """Counts for ever, letting others run."""
    n = 0
    while True:
        n += 1
        yield f"{n} "
        await asyncio.sleep(0.001)


async def echo(turn: Turn) -> AsyncIterator[Output]:
    """Repeat the input, then the history as JSON."""
    yield f"{turn.text}|"
    yield json.dumps(turn.history.messages()[:-1])


async def ask(client: RawClient, text: str = "hello", id: str = "i1", **fields: object) -> str:
    """Send an input and return the id of its turn."""
    await client.send({"type": "input.text", "id": id, "text": text, **fields})
    accepted = await client.until("input.accepted", input_id=id)
    return str(accepted["turn_id"])
