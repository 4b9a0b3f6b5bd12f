"""Model calls of a process's HTTP clients, closed with their turn.

Agents and frameworks make clients of their own, often when a module is imported. `close_model_calls` wraps
`AsyncClient.send` of httpx2 and httpx, once per process and whenever they are imported. In the context of a
turn it enters a streamed request in the turn's `TurnStreams`; everywhere else it calls the original.

Only streamed requests are entered (`stream=True`). A model's answer is read that way, and it is what goes on
after its task was left alone. A request that is read as a whole, such as a webhook or the request of a tool,
ends with the task that awaits it, as without a server: it is neither aborted nor refused here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..agent import TurnClosed
from ..guard.limits import RareLog
from ..settings import Settings
from .turn_requests import body_type, send_in_turn
from .upstream import TURN_STREAMS

if TYPE_CHECKING:
    import httpx2

log = RareLog(logging.getLogger("bargein.turn"))

LIBRARIES = ("httpx2", "httpx")


def http_client() -> httpx2.AsyncClient:
    """Return an HTTP client for model clients that are made at module level.

        MODEL = AsyncOpenAI(http_client=bargein_server.http_client())

    Each request finds its turn: it uses the connections and limits of the server, and ends with the turn as
    with `turn.http_client()`. Outside a server it is a plain client. Making one is cheap, and so is closing
    one, which does not affect the server's connections.

    Raises:
        RuntimeError: `httpx2` is not installed.
    """
    try:
        from .http_client import ModuleClient
    except ImportError as error:
        raise missing_httpx2("bargein_server.http_client()") from error
    return ModuleClient()


def missing_httpx2(user: str) -> RuntimeError:
    """Return the error of a function that needs httpx2."""
    return RuntimeError(f'{user} needs httpx2: pip install "bargein[http]"')


def server_http_client(settings: Settings) -> httpx2.AsyncClient:
    """Return a new HTTP client with the server's limits on model calls.

    Raises:
        RuntimeError: `httpx2` is not installed.
    """
    try:
        from .http_client import create_http_client
    except ImportError as error:
        raise missing_httpx2("turn.http_client()") from error
    return create_http_client(
        max_connections=settings.max_model_calls,
        max_keepalive=settings.max_idle_model_connections,
        wait_s=settings.model_wait_s,
        connect_s=settings.model_connect_s,
        first_byte_s=settings.model_first_byte_s,
        silence_s=settings.model_silence_s,
    )


def prepare_model_calls() -> None:
    """Read the TLS certificates now instead of in the first turn.

    It takes 50 ms, in which the event loop stands still. An error is left to the first call.
    """
    if "httpx2" in sys.modules:
        from .http_client import tls_context

        with suppress(Exception):
            tls_context()


def close_model_calls() -> None:
    """Wrap the clients of all known libraries, now or when they are imported.

    Further calls have no effect.
    """
    for name in LIBRARIES:
        if name in sys.modules:
            _wrap(sys.modules[name])
    if not any(isinstance(finder, _ImportWatch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportWatch())


def _wrap(library: ModuleType) -> None:
    client: Any = getattr(library, "AsyncClient", None)
    original = getattr(client, "send", None)
    stream_type = getattr(library, "AsyncByteStream", None)
    if original is None or stream_type is None:
        log.warning(
            "this version of %s is unknown: streams of its clients end with the agent's cleanup; pass "
            "bargein_server.http_client() to model clients",
            library.__name__,
        )
        return
    if hasattr(original, "closes_with_turn"):
        return
    body = body_type(stream_type)

    @wraps(original)
    async def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        turn = TURN_STREAMS.get() if stream else None
        if turn is None or not turn.all_clients or hasattr(self, "ends_with_turn"):
            return await original(self, request, stream=stream, **options)
        late = turn.closed
        try:
            return await send_in_turn(turn, partial(original, self, request, stream=True, **options), body)
        except TurnClosed:
            if late:
                _report_late()
            raise

    send.closes_with_turn = True  # type: ignore[attr-defined]
    client.send = send


def _report_late() -> None:
    log.warning(
        "a streamed request was refused, because its turn has ended: run work that outlives its turn with "
        "turn.spawn(…, outlive=True), or set --no-close-model-calls"
    )


class _ImportWatch(MetaPathFinder):
    """Import hook that wraps a library's clients once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a library with a loader that wraps its clients."""
        if fullname not in LIBRARIES:
            return None
        found = (
            finder.find_spec(fullname, path, target)
            for finder in sys.meta_path
            if finder is not self and hasattr(finder, "find_spec")
        )
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            _wrap_after_import(spec.loader)
        return spec


def _wrap_after_import(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ in LIBRARIES:
            _wrap(module)

    with suppress(AttributeError):  # a loader that takes no attributes
        loader.exec_module = exec_module
