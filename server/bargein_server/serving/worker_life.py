"""Life of a server as one of several workers: socket, place, end."""

from __future__ import annotations

import logging
import socket
from typing import Any, cast

from starlette.applications import Starlette

from ..cluster.machine import Machine
from ..cluster.node import Node
from ..cluster.worker import Control, Worker, stop_s_of
from ..guard.shared import SharedCounts
from ..guard.sharing import share
from ..settings import Settings
from ..stores.interface import Store
from ..stores.urls import store_of
from .server import Server, listening_socket

log = logging.getLogger("bargein.server")


def worker_store(url: str, settings: Settings, worker: Worker) -> Store | None:
    """Return the store that a worker shares with the others; None without one.

    Raises:
        BadStore: The URL names no store.
    """
    return store_of(url, shared=True, keep_s=settings.keep_s) if worker.keeps else None


class WorkerLife:
    """Life of a server as a worker.

    Args:
        worker: The worker that this process is.
        app: The application.
        server: The server.
        machine: Where other machines reach it; None without them.
    """

    def __init__(
        self, worker: Worker, app: Starlette, server: Server, machine: Machine | None = None
    ) -> None:
        self._machine = machine
        metrics = app.state.metrics
        self._worker = worker
        self._app = app
        self._server = server
        self._node = app.state.node = Node(
            worker.place, server.adopt, app, metrics.text if metrics is not None else None
        )
        stop_s = stop_s_of(app.state.settings)
        self._control = Control(worker, server.stop, self._node.leave_to, stop_s)

    def listener(self, host: str, stalled_s: float) -> socket.socket:
        """Return a bound socket of the workers' port; see `listening_socket`."""
        if self._worker.listener is not None:
            return socket.socket(fileno=self._worker.listener)
        return listening_socket(host, self._worker.port, stalled_s, shared=True)

    def begin(self) -> bool:
        """Join the other workers; return whether this one announces the address."""
        state, place = self._app.state, self._worker.place
        try:
            counts = SharedCounts(place.counts, place.column)
            counts.clear()
            share(state.admission, counts, place.tickets)
            cast(Any, self._server.config.http).sockets.shared = counts
            self._node.start(state.sessions, state.admission)
            self._serve_machines()
        except OSError as error:  # the supervisor is gone and has removed the folder
            log.error("the worker stops, because other workers cannot reach it: %s", error)
            self._server.stop()
            return False
        self._control.watch()
        return self._worker.announces

    def _serve_machines(self) -> None:
        machine, column = self._machine, self._worker.place.column
        if machine is None:
            return
        address = machine.address_at(column)
        try:
            listener = socket.create_server((machine.host, machine.port + column))
        except OSError as error:
            log.error(
                "other machines cannot reach this one at %s, so turns that run stay where they are: %s",
                address, error.strerror,
            )  # fmt: skip
            return
        self._node.serve_machines(listener, machine.secret, address)

    async def end(self, began: float) -> None:
        """Leave the other workers, after the sessions have ended or moved.

        Args:
            began: Time on the event loop's clock at which the server began to stop.
        """
        await self._node.stop(began)
        self._control.close()
        self._control.clean_up()
