"""Who may come in over HTTP, and what is refused with which status."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_server import BearerTokens
from live_server import Frame, WireKind, counting, echo, serving
from sse_client import http

TOKENS = BearerTokens({"ann-secret": "ann", "bob-secret": "bob"})
ANN = {"Authorization": "Bearer ann-secret"}
BOB = {"Authorization": "Bearer bob-secret"}
COOKIE = {"Bargein-Cookie": "/"}


def secret(opened: Frame) -> dict[str, str]:
    return {"Bargein-Session-Token": opened["token"]}


async def test_a_credential_in_the_header_or_the_body(wire: WireKind) -> None:
    """Without one, or with a wrong one, 401 and no session."""
    async with serving(echo, wire, authenticator=TOKENS) as server, http(server) as client:
        for headers, auth in ((ANN, {}), ({}, {"auth": "bob-secret"})):
            async with client.stream("/v1/turns", {"text": "x", **auth}, headers) as stream:
                assert (await stream.end())[-1]["status"] == "completed"
        for headers, auth in (({}, {}), ({"Authorization": "Bearer no"}, {}), ({}, {"auth": "no"})):
            for path in ("/v1/turns", "/v1/sessions"):
                refused = await client.post(path, {"text": "x", **auth}, headers)
                assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"
        assert len(server.sessions) == 2


async def test_a_session_is_its_principals(wire: WireKind) -> None:
    """Another's credential with a stolen token gets 404, as for a session that does not exist."""
    async with serving(counting, wire, authenticator=TOKENS) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}, ANN | COOKIE) as stream:
            opened = await stream.until("session.opened")
            place = f"/v1/sessions/{opened['session_id']}"
            cursor = {"epoch": opened["epoch"], "seq": 0}
            resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
            for who, status in ((BOB, 404), ({}, 401)):
                headers = who | secret(opened)
                ends = await client.post(f"{place}/interrupt", {"id": "x", "input_id": "i1"}, headers)
                follows = await client.request("GET", f"{place}/events", headers=headers)
                drives = await client.post("/v1/turns", {"text": "y", "resume": resume}, who)
                assert [a.status_code for a in (ends, follows, drives)] == [status] * 3
            cookie = {"Cookie": stream.response.headers["set-cookie"].partition(";")[0]}
            async with client.stream(f"{place}/events", headers=cookie) as follower:
                await follower.until("text.delta")
            ends = await client.post(
                f"{place}/interrupt", {"id": "x", "input_id": "i1"}, ANN | secret(opened)
            )
            assert ends.json()["outcome"] == "interrupted"


async def test_a_browser_that_came_with_a_ticket_drives_by_cookie(wire: WireKind) -> None:
    """A ticket is good once: what goes up after it needs the cookie of the stream, and the right secret."""
    async with serving(counting, wire, authenticator=TOKENS) as server, http(server) as client:
        ticket = (await client.post("/v1/tickets", {}, ANN)).json()["ticket"]
        async with client.stream("/v1/sessions", {"type": "session.open", "auth": ticket}, COOKIE) as stream:
            opened = await stream.until("session.opened")
            place = f"/v1/sessions/{opened['session_id']}/events"
            cookie = {"Cookie": stream.response.headers["set-cookie"].partition(";")[0]}
            wrong = {"Bargein-Session-Token": "no"}
            ping = {"type": "ping", "id": "p"}
            for headers, status in ((secret(opened), 401), (cookie, 404), (cookie | wrong, 404)):
                assert (await client.post(place, ping, headers)).status_code == status
            assert (await client.post(place, ping, cookie | secret(opened))).status_code == 202
            await stream.until("pong")


async def test_the_secret_of_a_session_is_needed(wire: WireKind) -> None:
    """401 without one, 404 with a wrong one: whether the session exists is nobody's business."""
    async with serving(counting, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            opened = await stream.until("session.opened")
            for session_id in (opened["session_id"], "s_none"):
                place = f"/v1/sessions/{session_id}"
                for headers, status in (({}, 401), ({"Bargein-Session-Token": "no"}, 404)):
                    for method, path, body in (
                        ("POST", f"{place}/interrupt", {"id": "x"}),
                        ("POST", f"{place}/events", {"type": "ping", "id": "p"}),
                        ("GET", f"{place}/events", None),
                    ):
                        answer = await client.request(method, path, body, headers)
                        assert answer.status_code == status


BAD: list[tuple[Any, dict[str, str], int, str]] = [
    (b"{", {}, 400, "bad_frame"),
    (b"", {}, 400, "bad_frame"),
    (b'{"text":"\xff"}', {}, 400, "bad_frame"),
    (b'{"text":"","metadata":{"a":' + b"[" * 30_000, {}, 400, "bad_frame"),
    (b"[]", {}, 422, "bad_event"),
    ({"text": 1}, {}, 422, "bad_event"),
    ({"tekst": "x"}, {}, 422, "bad_event"),
    ({"text": "x" * 65_537}, {}, 422, "bad_event"),
    ({"text": "x", "metadata": {"a": [[[]]] * 2}, "on_busy": "maybe"}, {}, 422, "bad_event"),
    ({"text": "x", "resume": {"session_id": "s"}}, {}, 422, "bad_event"),
    ({"text": "x"}, {"Last-Event-ID": "seven"}, 422, "bad_event"),
    ({"text": "x"}, {"Last-Event-ID": "e." + "[" * 5000}, 422, "bad_event"),
    ({"text": "x"}, {"Last-Event-ID": "e." + "9" * 5000}, 422, "bad_event"),
    ({"text": "x"}, {"Last-Event-ID": "e.-1"}, 422, "bad_event"),
    ({"text": "x"}, {"Content-Type": "text/plain"}, 415, "wrong_codec"),
    ({"text": "x"}, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "wrong_codec"),
    ({"text": "x" * 300_000}, {}, 413, "too_big"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), BAD, ids=lambda value: str(value)[:30])
async def test_a_bad_request(
    wire: WireKind, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    """Each is answered by an `error` of the protocol under its status, and makes no session."""
    async with serving(echo, wire) as server, http(server) as client:
        answer = await client.post("/v1/turns", body, headers)
        assert (answer.status_code, answer.json()["type"], answer.json()["code"]) == (status, "error", code)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["bargein-protocol"] == "1"
        assert len(server.sessions) == 0


async def test_nesting_is_bounded_as_on_the_socket(wire: WireKind) -> None:
    """64 levels and not 65."""
    value: Any = {}
    for _ in range(63):
        value = {"a": value}
    async with serving(echo, wire) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "metadata": value}) as stream:
            assert (await stream.end())[-1]["status"] == "completed"
        deeper = await client.post("/v1/turns", {"text": "x", "metadata": {"a": value}})
        assert deeper.status_code == 422


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"max_connections": 1}, 503),
        ({"max_connections_per_address": 1}, 429),
        ({"max_sessions": 1}, 503),
        ({"max_sessions": 2, "max_client_share": 0.5}, 429),
    ],
)
async def test_requests_count_as_connections(wire: WireKind, limits: dict[str, Any], status: int) -> None:
    """One more than the limit is told to come back later."""
    async with serving(counting, wire, **limits) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x"}) as stream:
            await stream.until("text.delta")
            refused = await client.post("/v1/turns", {"text": "y"})
            assert refused.status_code == status
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["retryable"]


async def test_an_address_has_a_rate(wire: WireKind) -> None:
    """Twice as many at once; more get 429 and a time to come back."""
    async with serving(echo, wire, max_requests_per_s=1) as server, http(server) as client:
        statuses = [
            (await client.post("/v1/sessions/s_none/interrupt", {"id": "x"})).status_code for _ in range(4)
        ]
        assert statuses[:2] == [401, 401]
        assert statuses[-1] == 429


async def test_pages_of_listed_origins_may_read_the_answers(wire: WireKind) -> None:
    """CORS by the list that sockets have; others are refused, also what needs no leave from a browser."""
    listed = "https://app.example"
    async with serving(echo, wire, origins=[listed]) as server, http(server) as client:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        leave = await client.request("OPTIONS", "/v1/turns", headers={"Origin": listed, **asks})
        assert leave.status_code == 200
        assert leave.headers["access-control-allow-origin"] == listed
        assert leave.headers["access-control-allow-credentials"] == "true"
        answer = await client.post("/v1/turns", {"text": "x"}, {"Origin": listed})
        assert answer.headers["access-control-allow-origin"] == listed
        assert "Bargein-Session" in answer.headers["access-control-expose-headers"]
        foreign = {"Origin": "https://evil.example"}
        assert (await client.request("OPTIONS", "/v1/turns", headers=foreign | asks)).status_code == 400
        refused = await client.post("/v1/turns", {"text": "x"}, foreign)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in refused.headers
        own = {"Origin": f"http://127.0.0.1:{server.port}"}
        assert (await client.post("/v1/turns", {"text": "x"}, own)).status_code == 200


async def test_a_cookie_over_tls_is_for_tls_alone(wire: WireKind) -> None:
    """A proxy that ends TLS says so, and the cookie is marked."""
    async with serving(echo, wire) as server, http(server) as client:
        answer = await client.post("/v1/turns", {"text": "x"}, {"X-Forwarded-Proto": "https"} | COOKIE)
        assert answer.headers["set-cookie"].endswith("; Secure")
