"""`/healthz`, `/readyz` and `/metrics`: who may ask, and what they say."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bargein_server import BearerTokens, Output, Settings, Turn, create_app
from bargein_server.app import shut_down_sessions
from bargein_server.telemetry.setup import NotInstalled
from live_server import WireKind, ask, counting, echo, serving
from waiting import WAIT_S, until

TOKENS = BearerTokens({"ann-secret": "ann"})


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_needs_no_token(path: str, wire: WireKind) -> None:
    """200 and `ok`, never from a cache; any other method is 405."""
    async with serving(echo, wire, authenticator=TOKENS) as server:
        status, headers, body = await server.request(path)
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        assert (await server.request(path, "HEAD"))[::2] == (200, b"")
        assert (await server.request(path, "POST"))[0] == 405


async def test_a_server_that_drains_is_alive_but_not_ready() -> None:
    """So that a balancer sends nobody new while the turns complete."""
    async with serving(counting, drain_s=30) as server, server.connect() as client:
        turn = await ask(client)
        stopping = asyncio.create_task(shut_down_sessions(server.app))
        await client.until("goaway")
        status, _, body = await server.request("/readyz")
        assert (status, json.loads(body)) == (503, {"status": "draining"})
        assert (await server.request("/healthz"))[0] == 200
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended", status="interrupted")
        assert await stopping == 0


async def test_a_server_that_is_full_is_not_ready(wire: WireKind) -> None:
    """It says so as long as it refuses; one client alone does not fill it."""
    tokens = BearerTokens({"ann-secret": "ann", "bob-secret": "bob"})
    limits: dict[str, Any] = {"max_sessions": 2, "max_client_share": 0.5}

    async def session(secret: str) -> None:
        client = await stack.enter_async_context(server.connect(additional_headers=bearer(secret)))
        await client.send({"type": "session.open"})
        await client.receive()

    async def ready() -> tuple[int, str]:
        status, _, body = await server.request("/readyz")
        return status, json.loads(body)["status"]

    async with serving(echo, wire, authenticator=tokens, **limits) as server, AsyncExitStack() as stack:
        await session("ann-secret")
        async with server.connect(additional_headers=bearer("ann-secret")) as client:
            await client.send({"type": "session.open"})
            assert (await client.closed())[0] == 4431
        assert await ready() == (200, "ok")
        await session("bob-secret")
        assert await ready() == (503, "full")
        assert (await server.request("/healthz"))[0] == 200
        await stack.aclose()
        async with asyncio.timeout(WAIT_S):
            while await ready() != (200, "ok"):
                await asyncio.sleep(0)


async def test_metrics_are_served_when_they_are_asked_for(wire: WireKind) -> None:
    """In the text format of Prometheus, with those of the process; not there otherwise."""
    async with serving(echo, wire, metrics=True) as server:
        status, headers, body = await server.request("/metrics")
        assert status == 200
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"bargein_turns_open" in body
        assert b"process_resident_memory_bytes" in body or sys.platform != "linux"
    async with serving(echo, wire) as server:
        assert (await server.request("/metrics"))[0] == 404


async def test_metrics_are_not_for_pages_with_a_name_for_this_machine(wire: WireKind) -> None:
    """DNS rebinding: such a page sends no `Origin`. With tokens it has none, so any name is right."""
    async with serving(echo, wire, metrics=True, origins=["http://metrics.example"]) as server:
        for host, status in (("evil.example", 403), ("localhost", 200), ("metrics.example", 200)):
            assert (await server.request("/metrics", Host=host))[0] == status
    async with serving(echo, wire, metrics=True, authenticator=TOKENS) as server:
        headers = {"Host": "metrics.example", **bearer("ann-secret")}
        assert (await server.request("/metrics", "GET", b"", **headers))[0] == 200


async def test_metrics_are_for_who_may_connect() -> None:
    """Where clients need a token, Prometheus needs one too."""
    async with serving(echo, authenticator=TOKENS, metrics=True) as server:
        status, headers, _ = await server.request("/metrics")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert (await server.request("/metrics", Authorization="Bearer wrong"))[0] == 401
        status, _, body = await server.request("/metrics", Authorization="Bearer ann-secret")
        assert status == 200
        assert b'bargein_requests_refused_total{status="401"} 2.0' in body


async def test_two_applications_in_one_process_count_for_themselves() -> None:
    """Each has a registry of its own."""
    async with serving(echo, metrics=True) as one, serving(echo, metrics=True) as other:
        async with one.connect() as client:
            await ask(client)
            await client.until("turn.ended")
        assert b"bargein_turns_asked_total 1.0" in (await one.request("/metrics"))[2]
        assert b"bargein_turns_asked_total 0.0" in (await other.request("/metrics"))[2]


async def test_a_scrape_sees_what_waits_and_what_is_stuck() -> None:
    """Gauges are read in the moment of the scrape."""
    stuck = asyncio.Event()

    async def stubborn(turn: Turn) -> AsyncIterator[Output]:
        yield "word "
        while not stuck.is_set():
            try:
                await stuck.wait()
            except asyncio.CancelledError:
                continue

    limits = {"metrics": True, "cleanup_grace_s": 0.0, "cleanup_kill_s": 0.0, "max_running_turns": 1}
    async with serving(stubborn, **limits) as server, server.connect() as client:  # type: ignore[arg-type]
        turn = await ask(client)
        await client.send({"type": "input.text", "id": "i2", "text": "then", "on_busy": "queue"})
        await client.until("input.queued")
        body = (await server.request("/metrics"))[2]
        assert b'bargein_turns_open{state="running"} 1.0' in body
        assert b'bargein_turns_open{state="waiting"} 1.0' in body
        assert b"bargein_slots_taken 1.0" in body
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await until(lambda: server.sessions.abandoned)
        body = (await server.request("/metrics"))[2]
        assert b"bargein_abandoned_tasks 1.0" in body
        assert b"bargein_turns_abandoned_total 1.0" in body
        stuck.set()
        await until(lambda: not server.sessions.abandoned)


async def test_a_scrape_sees_blocked_threads() -> None:
    """Also after the interrupt of their turn, and the calls that wait for them."""
    go = threading.Event()

    async def blocks(turn: Turn) -> AsyncIterator[Output]:
        calls = [turn.tools.run_in_thread(go.wait) for _ in range(2)]
        yield "word "
        await asyncio.gather(*map(asyncio.shield, calls))

    try:
        async with (
            serving(blocks, metrics=True, max_threads_per_session=1) as server,
            server.connect() as client,
        ):
            turn = await ask(client)
            await client.until("text.delta")
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
            await client.until("turn.ended")
            body = (await server.request("/metrics"))[2]
            assert b"bargein_threads_busy 1.0" in body
            assert b"bargein_threads_waiting 1.0" in body
    finally:
        go.set()


def test_metrics_without_their_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, when the application is made."""
    monkeypatch.delitem(sys.modules, "bargein_server.telemetry.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        NotInstalled, match=r'^metrics needs prometheus_client: pip install "bargein\[metrics\]"$'
    ):
        create_app(echo, Settings(metrics=True))
