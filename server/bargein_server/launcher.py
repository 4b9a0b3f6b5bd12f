"""`run` and its asynchronous twin `serve`: a server in this process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NoReturn

from .addresses import UNIX, checked_root_path, is_loopback, proxies_of, url_host
from .addresses import BadRootPath as BadRootPath
from .addresses import print_address as print_address
from .agent import Agent, NotAnAgent
from .app import SESSION_PATH, UnderPrefix, agent_name, create_app, request_stop, shut_down_sessions
from .cluster.machine import Machine
from .cluster.worker import Worker
from .endpoints.doors.table import DoorName, UnknownDoor
from .endpoints.sites import Site
from .guard.authentication import Authenticator, BadAuthenticator, BearerTokens, tokens_of_environment
from .guard.origins import BadOrigin
from .page_configuration import PageConfiguration
from .serving.gc_tuning import MemoryWatch, tune_gc
from .serving.server import Server, end_tasks, exits_contained, listening_socket, run_to_end, uvicorn_config
from .serving.unix_socket import remove_socket, unix_socket
from .serving.worker_life import WorkerLife
from .settings import Settings
from .stores.interface import Store
from .stores.urls import BadStore
from .telemetry.setup import NotInstalled, export
from .voice.interfaces import VoiceParts

log = logging.getLogger("bargein.server")


class NotProtected(ValueError):
    """Other machines reach the address, and clients need no credential."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines, so clients need a credential: set BARGEIN_TOKEN, "
            "give --tokens FILE or authenticator=…, or let all in with --insecure or insecure=True"
        )


class NotStarted(RuntimeError):
    """The application did not start, such as after an error in `startup()`.

    The log has the cause.
    """


class Launcher:
    """One server in this process, from its listening socket to its end.

    Args:
        agent: The agent to serve, or a site that contains applications of `create_app`.
        host: The address to listen on.
        port: The port to listen on; 0 for a free one.
        settings: Limits, timeouts and switches.
        authenticator: Authenticates clients; None admits every client.
        origins: Web origins whose pages may connect, beside the server's own.
        insecure: Allow an address that other machines reach without an authenticator.
        root_path: Path under which a proxy publishes the server, such as `/chat`.
        name: The agent's name in the lines that are printed; None for the name of its function or class.
        uvicorn_level: Log level of uvicorn.
        announce: Called with the name and the WebSocket URL when the server listens; None to print them.
        store: Where conversations are kept when the process ends; None for memory only.
        worker: The worker that this process is, when a supervisor has started it.
        machine: Where other machines reach it; None without them.
        doors: Other protocols to serve, as for `create_app`.
        voice: Parts that make the server hear, and the agent speak; None for text alone.
        page: Appearance of the chat page; None for its own.

    Raises:
        BadAuthenticator: `authenticator` can be called in no way.
        BadRootPath: `root_path` is not a path.
        NotAnAgent: `agent` is not an async generator function.
        NotProtected: Other machines reach `host`, and there is no authenticator.
        NotInstalled: `metrics` or `traces` is set, and a package for it is missing.
    """

    def __init__(
        self,
        agent: Agent | Site,
        host: str = "127.0.0.1",
        port: int = 8000,
        settings: Settings | None = None,
        authenticator: Authenticator | None = None,
        origins: Collection[str] = (),
        *,
        insecure: bool = False,
        root_path: str = "",
        name: str | None = None,
        uvicorn_level: str = "warning",
        announce: Callable[[str, str], None] | None = None,
        store: str | Store | None = None,
        worker: Worker | None = None,
        machine: Machine | None = None,
        doors: Collection[DoorName] = (),
        voice: VoiceParts | None = None,
        page: PageConfiguration | None = None,
    ) -> None:
        site = agent if isinstance(agent, Site) else None
        protected = authenticator is not None or (site is not None and site.authenticates)
        if not protected and not insecure and not is_loopback(host):
            raise NotProtected(host)
        limits = settings or Settings()
        flush = export() if limits.traces else None
        if isinstance(agent, Site):
            self._chats = agent.chats
        else:
            self._chats = (create_app(
                agent, limits, authenticator=authenticator, origins=origins, store=store, doors=doors,
                voice=voice, page=page,
            ),)  # fmt: skip
        self._app, self._announce, self._host = self._chats[0], announce or print_address, host
        self._name = name or (agent_name(agent) if not isinstance(agent, Site) else "the application")
        prefix = checked_root_path(root_path)
        self._path = prefix + (SESSION_PATH if site is None else "/")
        served: Any = self._app if site is None else site.app
        served = UnderPrefix(served, prefix) if prefix else served
        self._unix = host.removeprefix(UNIX) if host.startswith(UNIX) else None
        self._config = uvicorn_config(served, limits, host, port, uvicorn_level, proxies_of(host))
        self._server = Server(
            self._config, self._drain, self._listening, flush, self._request_stop, MemoryWatch().check
        )
        self._stalled_s = limits.stalled_s
        self._cleanup_s = limits.cleanup_grace_s + limits.cleanup_kill_s
        self._used, self._sockets = False, list[socket.socket]()
        self._server.listens_while_draining = worker is None  # other workers take the clients
        self._life = WorkerLife(worker, self._app, self._server, machine) if worker is not None else None

    def listen(self) -> None:
        """Bind the address; `run` and `serve` do this when it was not done before.

        Raises:
            OSError: The name is unknown or the address cannot be bound; the message has both and a remedy.
        """
        if self._sockets:
            return
        try:
            self._sockets.append(self._listener())
        except OSError as error:
            where = self._host if self._unix is not None else f"{self._host}:{self._config.port}"
            message = f"cannot listen on {where}: {error.strerror}"
            if error.errno == errno.EADDRINUSE:
                message += "; is another server running there?"
                if self._unix is None:
                    message += " Give port 0 for a free one, or another port"
            raise type(error)(error.errno, message) from error

    def _listener(self) -> socket.socket:
        if self._life is not None:
            return self._life.listener(self._host, self._stalled_s)
        if self._unix is not None:
            return unix_socket(self._unix)
        return listening_socket(self._host, self._config.port, self._stalled_s)

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, in an event loop of its own.

        A second signal stops without waiting, a third kills the process.

        When a task or a thread of an agent does not end, the process exits with status 1: an event loop
        that is closed in the usual way would wait for it for ever.

        Raises:
            NotStarted: The application did not start.
            OSError: The address cannot be bound.
            RuntimeError: The launcher has served already.
            SystemExit: A callback, or a task outside of turns, called `sys.exit()`; all turns have ended.
        """
        self._use()
        self.listen()
        tune_gc()
        runner = asyncio.Runner(loop_factory=self._config.get_loop_factory())
        loop = runner.get_loop()
        _, left = run_to_end(loop, loop.create_task(self._serve()), self._server.stop)
        stuck, _ = run_to_end(loop, loop.create_task(end_tasks(self._cleanup_s)), self._server.stop)
        if stuck:
            log.warning("%d tasks or threads of agents do not end: exiting without them", stuck)
            logging.shutdown()
            os._exit(1)
        runner.close()
        if left is not None:
            raise left
        if not self._server.should_exit:
            self._check_started()

    async def serve(self) -> None:
        """Serve until SIGINT, SIGTERM or cancellation, then end all turns.

        Raises:
            NotStarted: The application did not start.
            OSError: The address cannot be bound.
            RuntimeError: The launcher has served already.
        """
        self._use()
        self.listen()
        tune_gc()
        serving = asyncio.create_task(self._serve(), name="bargein-server")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            while not serving.done():  # a second cancel must not leave turns behind
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(serving)
            raise
        if self._server.stuck:
            log.warning("%d turns do not end", self._server.stuck)
        self._check_started()

    async def _serve(self) -> None:
        try:
            # uvicorn 0.54 exits when the application does not start; `_check_started` raises instead.
            with suppress(SystemExit), exits_contained():
                await self._server.serve(sockets=self._sockets)
        except (asyncio.CancelledError, Exception):
            # The loop ends and with it all tasks, or the server has a fault: the turns end first.
            if self._server.started:
                await self._server.shutdown(self._sockets)
            raise
        finally:
            for listener in self._sockets:  # uvicorn does not close them when it did not start
                listener.close()
            self._remove_socket()

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("a Launcher serves once: make another one")
        self._used = True

    def _check_started(self) -> None:
        if not self._server.started:
            raise NotStarted("the server did not start; the log has the cause")

    def _request_stop(self, urgent: bool) -> None:
        for chat in self._chats:
            request_stop(chat, urgent=urgent)

    async def _drain(self) -> int:
        began = asyncio.get_running_loop().time()
        stuck = sum(await asyncio.gather(*map(shut_down_sessions, self._chats)))
        if self._life is not None:
            await self._life.end(began)
        self._remove_socket()  # here, because uvicorn raises the signal again when it has stopped
        return stuck

    def _remove_socket(self) -> None:
        if self._unix is not None and self._sockets:
            remove_socket(self._unix)

    def _listening(self, port: int) -> None:
        if self._unix is not None:
            self._announce(self._name, self._host)
        elif self._life is None or self._life.begin():
            self._announce(self._name, f"ws://{url_host(self._host)}:{port}{self._path}")


def run(
    agent: Agent,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    authenticator: Authenticator | None = None,
    origins: Collection[str] = (),
    *,
    insecure: bool = False,
    root_path: str = "",
    store: str | Store | None = None,
    doors: Collection[DoorName] = (),
    voice: VoiceParts | None = None,
    page: PageConfiguration | None = None,
) -> None:
    """Serve an agent until SIGINT or SIGTERM, as `bargein-server` does.

    It prints the address, tunes Python's garbage collector for this process, and ends all turns
    before it closes their connections. Logging is left to the program. `BARGEIN_TOKEN` is the token of
    the principal `client` if there is no authenticator; the other `BARGEIN_` variables have no effect.

    An error is one line on stderr, without a traceback; `serve` raises it instead.

    Args:
        agent: The agent to serve.
        host: The address to listen on; `unix:` and a path for a Unix socket.
        port: The port to listen on; 0 for a free one.
        settings: Limits, timeouts and switches; None for the defaults.
        authenticator: Authenticates clients: an async function of an `AccessRequest`, or an object such as
            `BearerTokens`. None: `BARGEIN_TOKEN` is the only token, and without it every client is admitted.
        origins: Web origins whose pages may connect, beside the server's own.
        insecure: Allow an address that other machines reach without an authenticator.
        root_path: Path under which a proxy publishes the server, such as `/chat`; the proxy may strip it
            from the requests or keep it there.
        store: Where conversations are kept when the process ends, such as `sqlite:///bargein.db`; None for
            memory only. `BARGEIN_STORE` has no effect here.
        doors: Other protocols to serve, such as `chat` for OpenAI's chat completions. See docs/doors.
        voice: Parts that make the server hear, and the agent speak; None for text alone. See docs/voice.md.
        page: Appearance of the chat page; None for its own.

    Raises:
        SystemExit: With status 2 for wrong arguments, 3 when the server does not start.
    """
    try:
        launcher = Launcher(
            agent, host, port, settings, _authenticator(authenticator), origins,
            insecure=insecure, root_path=root_path, store=store, doors=doors, voice=voice, page=page,
        )  # fmt: skip
    except (
        BadAuthenticator, BadOrigin, BadRootPath, BadStore, NotAnAgent, NotInstalled, NotProtected,
        UnknownDoor,
    ) as error:  # fmt: skip
        _exit(2, str(error))
    try:
        launcher.listen()
    except OSError as error:
        _exit(3, error.strerror or str(error))
    try:
        launcher.run()
    except NotStarted as error:
        _exit(3, str(error))


async def serve(
    agent: Agent,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    authenticator: Authenticator | None = None,
    origins: Collection[str] = (),
    *,
    insecure: bool = False,
    root_path: str = "",
    store: str | Store | None = None,
    doors: Collection[DoorName] = (),
    voice: VoiceParts | None = None,
    page: PageConfiguration | None = None,
) -> None:
    """Serve an agent until SIGINT, SIGTERM or cancellation.

    It uses the running event loop. The arguments are those of `run`, and `BARGEIN_TOKEN` counts. When it is
    cancelled it ends all turns, closes their connections, and then raises `asyncio.CancelledError`.

    Raises:
        BadAuthenticator: `authenticator` can be called in no way.
        BadRootPath: `root_path` is not a path.
        BadStore: `store` is a text that names no store.
        NotAnAgent: `agent` is not an async generator function.
        NotProtected: Other machines reach `host`, and there is no authenticator.
        NotInstalled: `metrics` or `traces` is set, and a package for it is missing.
        UnknownDoor: There is no door of a name in `doors`.
        ValueError: `BARGEIN_TOKEN` is set and empty.
        NotStarted: The application did not start.
        OSError: The address cannot be bound.
    """
    await Launcher(
        agent, host, port, settings, _authenticator(authenticator), origins,
        insecure=insecure, root_path=root_path, store=store, doors=doors, voice=voice, page=page,
    ).serve()  # fmt: skip


def _authenticator(given: Authenticator | None) -> Authenticator | None:
    """Return the given authenticator, or one for the token in `BARGEIN_TOKEN`."""
    tokens = tokens_of_environment(os.environ) if given is None else {}
    return BearerTokens(tokens) if tokens else given


def _exit(status: int, message: str) -> NoReturn:
    print(f"bargein: {message}", file=sys.stderr)
    sys.exit(status)
