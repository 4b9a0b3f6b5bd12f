"""uvicorn server, its listening socket, and the end of its event loop.

Three queues stand between a `yield` and the user: the transport's buffer, unsent bytes in the kernel, and
the network. An interrupt purges only output before them. The transport's write limits keep the first
small, `TCP_NOTSENT_LOWAT` the second. Together, on a line of 1 Mbit/s that a producer saturates, they
leave a sixth of the stale bytes at full throughput. `TCP_USER_TIMEOUT` (RFC 5482) ends connections whose
peer acknowledges nothing, which keep-alive pings alone do not.

`SystemExit` and `KeyboardInterrupt` leave an event loop at once, from any task and callback. They are
contained in each task that the server makes for an agent, and in each task that the code of a turn makes
itself (`contained_task`). Callbacks and tasks outside of turns are not known. So whatever leaves the loop
is recorded, and the loop runs on until the turns and connections have ended (`run_to_end`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar, cast

import uvicorn
from starlette.types import ASGIApp

from ..core.author_code import Contained
from ..hosting.stopping import SERVER_DRAINS
from ..hosting.upstream import TURN_STREAMS
from ..settings import Settings
from ..transport.movable_protocol import MovableProtocol, adopt
from ..transport.sockets import Sockets
from .http_protocol import BoundedHttpProtocol, invalid_requests

NOTSENT_BYTES = 4096

RECEIVE_BYTES = 64 * 1024
"""Buffer of a connection for bytes that wait to be read. The kernel's own bound is 6 MiB on Linux, and a
read of many such buffers delays the next interrupt."""

_MAX_INT = 2**31 - 1


SHARES_PORTS = sys.platform == "linux"
"""Whether the kernel spreads connections over the sockets of one port; macOS gives all to one of them."""


def listening_socket(host: str, port: int, stalled_s: float, *, shared: bool = False) -> socket.socket:
    """Return a bound socket.

    Args:
        host: An address, or a name; the first of its addresses is used.
        port: The port; 0 for a free one.
        stalled_s: Seconds after which a connection that acknowledges nothing is dropped.
        shared: Whether other processes of this user may bind the same port (`SHARES_PORTS`).

    Raises:
        OSError: The name is unknown or the address cannot be bound.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    # The protocol is given because asyncio sets TCP_NODELAY only on sockets that are named TCP.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        for option, value in (
            ("TCP_NOTSENT_LOWAT", NOTSENT_BYTES),
            ("TCP_USER_TIMEOUT", min(int(stalled_s * 1000), _MAX_INT)),
        ):
            if hasattr(socket, option):  # Linux; elsewhere only the limits of the transport apply
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


log = logging.getLogger("bargein.server")

T = TypeVar("T")

Drain = Callable[[], Awaitable[int]]

KILLING = 3
"""Number of the signal that kills the process."""


def uvicorn_config(
    app: ASGIApp, settings: Settings, host: str, port: int, log_level: str, proxies: str | None = None
) -> uvicorn.Config:
    """Return the configuration of uvicorn that is benchmarked.

    Args:
        app: The application.
        settings: The limits.
        host: The address.
        port: The port.
        log_level: The level of uvicorn's log.
        proxies: Addresses of proxies whose headers are believed; None for `FORWARDED_ALLOW_IPS`.

    Compression is off. For the frame of a token it takes three times the CPU time and the memory and saves
    no bytes, and frames that go directly to the transport cannot be compressed.
    """
    http_limits = {
        "head_s": settings.request_head_s,
        "head_bytes": settings.max_head_bytes,
        "body_s": settings.request_body_s,
        "stalled_s": settings.stalled_s,
    }
    http: type[BoundedHttpProtocol] = type("HttpProtocol", (BoundedHttpProtocol,), http_limits)
    frame_limits = {
        "max_pieces": settings.max_frame_fragments,
        "max_pong_bytes": settings.max_pong_bytes,
        "max_frames_per_s": settings.max_frames_per_s,
    }
    websocket: type[MovableProtocol] = type(
        "WebSocketProtocol", (MovableProtocol,), {"__slots__": (), **frame_limits}
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        ws=websocket,
        h11_max_incomplete_event_size=settings.max_head_bytes,
        ws_max_size=settings.max_frame_bytes,
        ws_per_message_deflate=False,
        # Finds a peer that is gone while no data is on its way that TCP would have to acknowledge.
        ws_ping_interval=settings.stalled_s / 2,
        ws_ping_timeout=settings.stalled_s,
        timeout_graceful_shutdown=5,
        log_level=log_level,
        log_config=None,  # uvicorn logs through the handlers of the process
        access_log=False,
        server_header=False,
        forwarded_allow_ips=proxies,
    )
    logging.getLogger("uvicorn.error").addFilter(invalid_requests)
    believed = config.forwarded_allow_ips
    http.sockets = websocket.sockets = Sockets(
        settings.max_connections,
        settings.max_connections_per_address,
        believed.split(",") if isinstance(believed, str) else believed,
    )
    return config


class Server(uvicorn.Server):
    """Server that ends turns before it closes connections.

    uvicorn closes every WebSocket first and runs the lifespan's shutdown last, when no connected client is
    left to receive the end of its turn.

    Args:
        config: The configuration (`uvicorn_config`).
        drain: Awaited before connections are closed; ends the turns within a bound of its own and
            returns the number of their tasks that are stuck.
        announce: Called with the port when the server listens.
        flush: Called in a thread after everything was closed. The signal that stopped the server ends
            the process after that, and exit handlers of Python do not run.
        request_stop: Called with False for the first request to stop and with True for the second; may
            be called in a signal handler.
        tick: Called ten times a second.

    Attributes:
        listens_while_draining: Whether new connections are accepted until the turns have ended.
        stuck: Number of tasks that did not end. An event loop that is closed in the usual way would
            wait for them forever.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        announce: Callable[[int], None],
        flush: Callable[[], object] | None = None,
        request_stop: Callable[[bool], None] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.stuck = 0
        self.listens_while_draining = True
        self._drain = drain
        self._announce = announce
        self._flush = flush
        self._request_stop = request_stop
        self._requests = 0
        self._tick = tick

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce the port."""
        SERVER_DRAINS.set(True)
        await super().startup(sockets)
        if self.started:
            listening = sockets or [sock for server in self.servers for sock in server.sockets]
            name = listening[0].getsockname()
            self._announce(0 if isinstance(name, str) else name[1])

    async def on_tick(self, counter: int) -> bool:
        """Return whether the server must stop."""
        if self._tick is not None:
            self._tick()
        return await super().on_tick(counter)

    async def adopt(self, descriptor: int, attach: Callable[[MovableProtocol], None]) -> None:
        """Continue the connection of a socket that another process gave away.

        Args:
            descriptor: The socket's descriptor, which is closed if this fails.
            attach: Attaches the connection, before anything is read.

        Raises:
            OSError: The client is gone.
        """
        protocol = cast(Any, self.config.ws_protocol_class)(self.config, self.server_state, {})
        await adopt(protocol, descriptor, attach)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the turns, then let uvicorn close all connections.

        Meanwhile balancers can read the readiness probe, unless others listen at the address.
        """
        if not self.listens_while_draining:
            for server in self.servers:
                server.close()
        self.stuck = await self._drain()
        await super().shutdown(sockets)
        if self._flush is not None and not self.force_exit:
            await asyncio.to_thread(self._flush)

    def stop(self) -> None:
        """Stop; a second call stops without waiting for turns and connections."""
        self._requests += 1
        self.should_exit = True
        urgent = self._requests > 1
        if urgent:
            self.force_exit = True
        if self._request_stop is not None:
            self._request_stop(urgent)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal, hurry at the second, kill at the third."""
        super().handle_exit(sig, frame)
        self.stop()
        if self._requests >= KILLING:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGHUP of a closed terminal too, unless `nohup` ignores it."""
        with super().capture_signals():
            hangup = getattr(signal, "SIGHUP", None)  # not on Windows
            main = threading.current_thread() is threading.main_thread()
            if hangup is None or not main or signal.getsignal(hangup) is not signal.SIG_DFL:
                yield
                return
            signal.signal(hangup, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(hangup, signal.SIG_DFL)


def contained_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> asyncio.Task[T]:
    """Make a task; exits of a turn's tasks are contained (a task factory).

    The turn is known by its context, and records the task (`hosting.stray_tasks`). A task with a context of
    its own is the server's, or it leaves the turn on purpose.
    """
    turn = TURN_STREAMS.get()
    if turn is None or options.get("context") is not None or not asyncio.iscoroutine(work):
        return asyncio.Task(work, loop=loop, **options)
    task = asyncio.Task(Contained(work), loop=loop, **options)
    turn.record_task(task)
    return task


@contextmanager
def exits_contained() -> Iterator[None]:
    """Use `contained_task` on the running loop, unless it has a factory."""
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is not None:
        yield
        return
    loop.set_task_factory(contained_task)
    try:
        yield
    finally:
        loop.set_task_factory(None)


def run_to_end(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[T], stop: Callable[[], None]
) -> tuple[T | None, SystemExit | None]:
    """Run the loop until a task has ended, despite exits of other tasks.

    Args:
        loop: The loop.
        task: The server, or what follows it.
        stop: Asks the server to stop; each further call is more urgent.

    Returns:
        The result of the task, None if it raised `SystemExit` or `KeyboardInterrupt`, as a server does
        after SIGINT; and the `SystemExit` that another task or callback raised first, None without one.
    """
    left: SystemExit | None = None
    while True:
        try:
            return loop.run_until_complete(task), left
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return None, left
            log.error("a task or a callback of the agent raised %s: the server stops", type(error).__name__)
            if left is None and isinstance(error, SystemExit):
                left = error
            stop()


async def end_tasks(timeout_s: float) -> int:
    """Cancel all other tasks; close the loop's generators and threads.

    Args:
        timeout_s: Time for the tasks, and again for the rest, in seconds.

    Returns:
        Number of tasks that have not ended; generators and threads count as one each.
    """
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    left: set[asyncio.Task[Any]] = set()
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=timeout_s)
    # A closing event loop waits for both without a bound.
    closing = loop.create_task(loop.shutdown_asyncgens()), loop.create_task(loop.shutdown_default_executor())
    _, open_ = await asyncio.wait(closing, timeout=timeout_s)
    return len(left) + len(open_)
