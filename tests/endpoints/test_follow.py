"""`GET /v1/sessions/{id}/events`: followers, who read and change nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from bargein_server.transport.event_stream import FollowerConnection
from live_server import Frame, Serving, WireKind, ask, counting, echo, serving
from sse_client import http
from waiting import WAIT_S, until


def path(opened: Frame) -> str:
    return f"/v1/sessions/{opened['session_id']}/events"


def token(opened: Frame) -> dict[str, str]:
    return {"Bargein-Session-Token": opened["token"]}


def numbers(frames: list[Frame]) -> list[int]:
    return [frame["seq"] for frame in frames if "turn_id" in frame and frame.get("seq")]


async def test_a_follower_sees_what_the_driver_sees(wire: WireKind) -> None:
    """From the start by default; every number once, in order; it is told from where on it is live."""
    async with serving(counting, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        turn = await ask(socket)
        await socket.until("text.delta")
        async with client.stream(path(opened), headers=token(opened)) as follower:
            await follower.until("replay.done")
            await follower.until("text.delta")
            await socket.send({"type": "interrupt", "id": "x", "turn_id": turn})
            await follower.until("turn.ended", turn_id=turn)
            await socket.until("turn.ended")
        seen = numbers(follower.frames)
        assert seen == list(range(1, len(seen) + 1))
        driven = {frame["seq"]: frame for frame in socket.frames if frame.get("seq")}
        assert all(driven[f["seq"]] == f for f in follower.frames if "turn_id" in f)
        assert "session.opened" not in [frame["type"] for frame in follower.frames]
        assert {message.id for message in follower.messages if message.kind == "turn.ended"} == {
            f"{opened['epoch']}.{seen[-1]}"
        }


async def test_a_follower_displaces_nobody_and_hears_nothing(wire: WireKind) -> None:
    """The driver goes on, its token stays good, and what only a follower read counts as unheard."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}) as stream:
            opened = await stream.until("session.opened")
            await stream.until("text.delta")
        await until(lambda: all(live.connection is None for live in server.sessions))
        async with client.stream(path(opened), headers=token(opened)) as follower:
            await follower.until("replay.done")
            seen = (await follower.until("text.delta"))["seq"]
            ends = f"/v1/sessions/{opened['session_id']}/interrupt"
            await client.post(ends, {"id": "x", "input_id": "i1"}, token(opened))
            end = await follower.until("turn.ended")
        assert end["heard"]["seq"] < seen


async def test_a_follower_goes_on_from_where_it_was(wire: WireKind) -> None:
    """`Last-Event-ID` gives what came after it; `from=now` only what is new."""
    async with serving(echo, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        await ask(socket)
        await socket.until("turn.ended")
        last = token(opened) | {"Last-Event-ID": f"{opened['epoch']}.3"}
        async with (
            client.stream(path(opened), headers=last) as later,
            client.stream(path(opened) + "?from=now", headers=token(opened)) as now,
        ):
            await later.until("replay.done")
            await now.until("replay.done")
            await ask(socket, id="i2")
            await later.until("turn.ended", seq=10)
            await now.until("turn.ended", seq=10)
        assert numbers(later.frames) == list(range(4, 11))
        assert numbers(now.frames) == list(range(6, 11))


async def test_a_log_that_ran_over_is_told_as_a_snapshot(wire: WireKind) -> None:
    """Whose cursor is too old gets the state, and an id to go on from."""
    async with serving(counting, wire, max_log_events=16) as server, server.connect() as socket:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        await ask(socket)
        while (await socket.until("text.delta"))["seq"] < 40:
            pass
        async with http(server) as client:
            old = token(opened) | {"Last-Event-ID": f"{opened['epoch']}.2"}
            async with client.stream(path(opened), headers=old) as follower:
                snapshot = await follower.until("snapshot")
                assert follower.messages[0].id == f"{opened['epoch']}.{snapshot['through']}"
                assert snapshot["turns"][0]["lanes"][""]["text"].startswith("1 2 3 ")
                await follower.until("text.delta", seq=snapshot["through"] + 1)


async def test_who_reads_too_slowly_falls_off(wire: WireKind) -> None:
    """It is told with the code of a slow consumer, may come back for a snapshot, and slows nobody."""
    async with serving(counting, wire, max_log_events=16) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            opened = await stream.until("session.opened")
            async with client.stream(path(opened), headers=token(opened)) as follower:
                await follower.until("replay.done")
                [live] = server.sessions
                [following] = live.followers
                assert isinstance(following, FollowerConnection)
                following._wire._backlog += 2**20  # as if it did not read
                seen = (await stream.until("text.delta"))["seq"]
                while (await stream.until("text.delta"))["seq"] < seen + 40:
                    pass
                following._wire._backlog -= 2**20
                await follower.end()
            told = follower.messages[-1]
            assert (told.kind, told.data["name"], told.data["action"]) == ("close", "slow_consumer", "resume")
            assert not live.followers
            await stream.until("text.delta")


async def test_the_end_of_the_session_ends_its_followers(wire: WireKind) -> None:
    """With the code of the end; it cannot be followed any more."""
    async with serving(counting, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        await ask(socket)
        async with client.stream(path(opened), headers=token(opened)) as follower:
            await follower.until("replay.done")
            await socket.send({"type": "session.close"})
            await follower.until("turn.ended", reason="session_closed")
            await follower.end()
        assert follower.messages[-1].data["name"] == "closed"
        again = await client.request("GET", path(opened), headers=token(opened))
        assert (again.status_code, again.json()["code"]) == (404, "session_lost")


async def test_a_silent_session_is_kept_alive(wire: WireKind) -> None:
    """By comments."""
    async with serving(counting, wire, heartbeat_s=0.05) as server, server.connect() as socket:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        async with http(server) as client, client.stream(path(opened), headers=token(opened)) as follower:
            await follower.until("replay.done")
            for _ in range(2):
                message = await follower.receive()
                assert message is not None
                assert message.data == "heartbeat"


async def test_a_browser_follows_by_cookie(wire: WireKind) -> None:
    """An `EventSource` sets no header: the answer to the turn gave it a cookie for this session alone."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}, {"Bargein-Cookie": "/"}) as stream:
            opened = await stream.until("session.opened")
            given = stream.response.headers["set-cookie"]
            pair, *attributes = given.split("; ")
            assert attributes == [
                f"Path=/v1/sessions/{opened['session_id']}",
                "Max-Age=21600",
                "HttpOnly",
                "SameSite=Strict",
            ]
            assert opened["token"] not in given
            async with client.stream(path(opened), headers={"Cookie": pair}) as follower:
                await follower.until("text.delta")
            false = {"Cookie": "bargein_session=false"}
            assert (await client.request("GET", path(opened), headers=false)).status_code == 404
            other = path({"session_id": "s_other"})
            assert (await client.request("GET", other, headers={"Cookie": pair})).status_code == 404


async def test_a_client_that_asks_for_no_cookie_gets_none(wire: WireKind) -> None:
    """A browser keeps a bounded number of a site's cookies: 170 turns would evict those of the site."""
    async with serving(echo, wire) as server, http(server) as client:
        assert "set-cookie" not in (await client.post("/v1/turns", {"text": "x"})).headers


@pytest.mark.parametrize("prefix", ["/chat", "/chat/", "/a/b.c"])
async def test_a_cookie_works_under_a_prefix_that_a_proxy_strips(wire: WireKind, prefix: str) -> None:
    """Only the page knows it."""
    async with serving(echo, wire) as server, http(server) as client:
        answer = await client.post("/v1/turns", {"text": "x"}, {"Bargein-Cookie": prefix})
        path = f"{prefix.rstrip('/')}/v1/sessions/{answer.headers['bargein-session']}"
        assert answer.headers["set-cookie"].split("; ")[1] == f"Path={path}"


@pytest.mark.parametrize("path", ["", "chat", "//evil", "/a; Domain=evil", "/" + "x" * 129, "/a" * 17])
async def test_a_cookie_has_no_other_attributes_than_its_path(wire: WireKind, path: str) -> None:
    """What is no path is refused."""
    async with serving(echo, wire) as server, http(server) as client:
        answer = await client.post("/v1/turns", {"text": "x"}, {"Bargein-Cookie": path})
        assert (answer.status_code, "set-cookie" in answer.headers) == (422, False)


async def test_a_head_request_ends(wire: WireKind) -> None:
    """It gets the head of what a GET would get."""
    async with serving(counting, wire) as server, server.connect() as socket, http(server) as client:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        answer = await client.request("HEAD", path(opened), headers=token(opened))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")


async def follow_with_a_library(server: Serving, opened: Frame) -> list[Any]:
    """Follow with `httpx-sse` until a turn has ended; returns its events."""
    events = []
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        url = f"http://127.0.0.1:{server.port}{path(opened)}"
        async with aconnect_sse(client, "GET", url, headers=token(opened)) as source:
            async for event in source.aiter_sse():
                events.append(event)
                if event.event == "turn.ended":
                    break
    return events


async def test_a_library_follows(wire: WireKind) -> None:
    """`httpx-sse` reads types, ids and data, and passes comments over."""
    async with serving(echo, wire, heartbeat_s=0.05) as server, server.connect() as socket:
        await socket.send({"type": "session.open"})
        opened = await socket.receive()
        following = asyncio.create_task(follow_with_a_library(server, opened))
        await until(lambda: any(live.followers for live in server.sessions))
        await ask(socket)
        await socket.until("turn.ended")
        events = await following
        assert [event.event for event in events][-3:] == ["text.delta", "text.delta", "turn.ended"]
        assert [event.id for event in events][-1] == f"{opened['epoch']}.5"
        assert events[-1].json()["heard"]["text"] == "hello|[]"
