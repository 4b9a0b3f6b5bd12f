"""Contract 13 for event streams: nothing is left of those that ended."""

from __future__ import annotations

import asyncio

from starlette.routing import Route

from bargein_server.endpoints.endpoint import HttpEndpoint
from live_server import Frame, Serving, WireKind, counting, serving
from sse_client import Http, http
from waiting import until


def token(opened: Frame) -> dict[str, str]:
    return {"Bargein-Session-Token": opened["token"]}


async def away(server: Serving) -> None:
    """Wait until nobody drives any session."""
    await until(lambda: all(live.connection is None for live in server.sessions), "the client's absence")


async def test_streams_leave_nothing_behind(wire: WireKind) -> None:
    """After many that were cut, interrupted or followed: no stream, no task, no counted connection."""
    async with serving(counting, wire, stream_closed="interrupt") as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            await stream.until("text.delta")
        await away(server)
        [admission] = {
            route.app._admission
            for route in server.app.routes
            if isinstance(route, Route) and isinstance(route.app, HttpEndpoint)
        }
        await until(lambda: len(admission.connections) == 0)
        before = len(asyncio.all_tasks())
        for number in range(30):
            async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
                opened = await stream.until("session.opened")
                if number % 3 == 0:
                    await cut_off(client, opened)
                    await stream.end()
                elif number % 3 == 1:
                    path = f"/v1/sessions/{opened['session_id']}/events"
                    async with client.stream(path, headers=token(opened)) as follower:
                        await follower.until("text.delta")
        await away(server)
        await until(lambda: not server.sessions.streams and len(admission.connections) == 0, "no streams")
        await until(lambda: not any(live.followers or live.tasks() for live in server.sessions), "no turns")
        await until(lambda: len(asyncio.all_tasks()) <= before, "no tasks")


async def cut_off(client: Http, opened: Frame) -> None:
    path = f"/v1/sessions/{opened['session_id']}/interrupt"
    answer = await client.post(path, {"id": "x", "input_id": "i1"}, token(opened))
    assert answer.json()["outcome"] == "interrupted"
