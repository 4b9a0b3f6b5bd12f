"""The wrapper of foreign HTTP clients: installed once, whenever a library is imported, idle outside turns."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest

from bargein_server import http_client
from bargein_server.guard.limits import RareLog
from bargein_server.hosting import model_calls
from bargein_server.hosting.model_calls import close_model_calls
from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams
from model_server import Upstream

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2])


def sends() -> list[Any]:
    """Return the method of each library."""
    return [httpx.AsyncClient.send, httpx2.AsyncClient.send]


def test_it_is_installed_once() -> None:
    """A second server of the process changes nothing."""
    close_model_calls()
    before, finders = sends(), list(sys.meta_path)
    close_model_calls()
    assert sends() == before
    assert sys.meta_path == finders


@LIBRARIES
def test_the_method_looks_as_before(library: Any) -> None:
    """Its name, its signature and its kind are those of the library."""
    close_model_calls()
    send = library.AsyncClient.send
    assert asyncio.iscoroutinefunction(send)
    assert send.__qualname__ == "AsyncClient.send"
    assert send.__doc__ == send.__wrapped__.__doc__


@LIBRARIES
@pytest.mark.parametrize("context", ["no turn", "a turn without the setting"])
async def test_a_stream_outside_of_turns_is_as_it_was(library: Any, context: str, upstream: Upstream) -> None:
    """Its response has the stream of the library."""
    close_model_calls()
    TURN_STREAMS.set(None if context == "no turn" else TurnStreams(all_clients=False))
    async with library.AsyncClient(trust_env=False) as client:
        asking = asyncio.create_task(client.send(client.build_request("POST", upstream.url), stream=True))
        (await upstream.call()).reply(200, {"fine": True})
        response = await asking
        assert type(response.stream).__module__.startswith(library.__name__)
        assert await response.aread() == b'{"fine": true}'


@LIBRARIES
async def test_a_turn_enters_streams_alone(library: Any, upstream: Upstream) -> None:
    """A streamed request is entered twice, in flight and with its body; others are not."""
    close_model_calls()
    turn = TurnStreams()
    TURN_STREAMS.set(turn)
    async with library.AsyncClient(trust_env=False) as client:
        posting = asyncio.create_task(client.post(upstream.url))
        (await upstream.call()).reply(200, {})
        await posting
        assert turn.entered == 0
        asking = asyncio.create_task(client.send(client.build_request("POST", upstream.url), stream=True))
        (await upstream.call()).reply(200, {"fine": True})
        assert await (await asking).aread() == b'{"fine": true}'
        assert turn.entered == 2
        assert len(turn) == 0
        turn.close()
        posting = asyncio.create_task(client.post(upstream.url))
        (await upstream.call()).reply(204, {})
        assert (await posting).status_code == 204


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.parametrize("probe", ["", "import importlib.util; importlib.util.find_spec(LIBRARY);"])
def test_a_library_that_is_imported_later(library: str, probe: str) -> None:
    """Its clients are wrapped at the import, also if a program looked for it before; nothing imports it."""
    code = f"""
import sys, inspect
from bargein_server.hosting.model_calls import close_model_calls
close_model_calls()
assert LIBRARY not in sys.modules
{probe}
import LIB
assert LIB.AsyncClient.send.closes_with_turn
assert "AsyncClient" in inspect.getsource(LIB)
import importlib
importlib.reload(LIB)
""".replace("LIBRARY", repr(library)).replace("LIB", library)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_library_that_is_not_installed() -> None:
    """Its import fails as ever."""
    close_model_calls()
    watch = next(finder for finder in sys.meta_path if isinstance(finder, model_calls._ImportWatch))
    absent = SimpleNamespace(find_spec=lambda *_: None)
    others = [finder for finder in sys.meta_path if finder is not watch]
    try:
        sys.meta_path[:] = [watch, absent]
        assert watch.find_spec("httpx2", None) is None
    finally:
        sys.meta_path[:] = [watch, *others]
    assert watch.find_spec("json", None) is None


def test_a_version_that_is_unknown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is left alone, and one line says so."""
    monkeypatch.setattr(model_calls, "log", RareLog(logging.getLogger("bargein.turn")))
    monkeypatch.setitem(sys.modules, "httpx", ModuleType("httpx"))
    close_model_calls()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "httpx" in line
    assert "http_client()" in line


# The client for module level


async def test_a_module_client_outside_servers(upstream: Upstream) -> None:
    """It is a plain client that may be closed and used again; all of a loop share their connections."""
    one, other = http_client(), http_client()
    for client in (one, other, one):
        async with client:
            asking = asyncio.create_task(client.get(upstream.url))
            (await upstream.call()).reply(200, {"fine": True})
            assert (await asking).json() == {"fine": True}
        assert client.is_closed is False
    assert upstream.connections == 3  # each `async with` has closed them
    for client in (one, other):
        asking = asyncio.create_task(client.get(upstream.url))
        (await upstream.call()).reply(200, {})
        await asking
    assert upstream.connections == 4
    await one.aclose()


def test_a_module_client_in_two_event_loops() -> None:
    """A connection of a loop that has ended is not used in the next one."""
    client = http_client()

    async def request() -> int:
        async with Upstream(lambda call: call.reply(200, {})) as upstream:
            response = await client.get(upstream.url)
        await client.aclose()
        return response.status_code

    assert [asyncio.run(request()) for _ in range(2)] == [200, 200]


def test_a_module_client_has_no_tls_context_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one at import time takes no certificates."""

    def no_context(*_: Any, **__: Any) -> None:
        raise AssertionError("a TLS context was made")

    monkeypatch.setattr("httpx2._config.create_ssl_context", no_context)
    monkeypatch.setattr("ssl.create_default_context", no_context)
    http_client()


async def test_hooks_and_credentials_of_a_module_client(upstream: Upstream) -> None:
    """They belong to the instance that they were set on."""
    seen: list[str] = []

    async def hook(request: httpx2.Request) -> None:
        seen.append(request.method)

    client = http_client()
    client.event_hooks = {"request": [hook]}
    client.auth = ("user", "secret")
    asking = asyncio.create_task(client.get(upstream.url))
    call = await upstream.call()
    assert call.headers["authorization"].startswith("Basic ")
    call.reply(200, {})
    await asking
    asking = asyncio.create_task(http_client().get(upstream.url))
    call = await upstream.call()
    assert "authorization" not in call.headers
    call.reply(200, {})
    await asking
    assert seen == ["GET"]
    await client.aclose()


def test_the_remedy_without_httpx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "bargein_server.hosting.http_client", None)
    with pytest.raises(RuntimeError, match=r"bargein\[http\]"):
        http_client()
