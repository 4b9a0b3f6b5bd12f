"""Authenticators that see the request: principals with claims, refusals with a reason."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bargein_server import AccessDenied, AccessRequest, Output, Principal, Turn, create_app, issue_ticket
from bargein_server.guard.admission import FAILURES_PER_S, rare_log
from live_server import Frame, RawClient, Serving, WireKind, ask, serving
from sse_client import http
from waiting import until

PLANS = {"ann": "pro", "bob": "free"}


async def whoami(turn: Turn) -> AsyncIterator[Output]:
    """Say who speaks, with the claims."""
    principal = turn.principal
    assert principal is not None
    yield f"{principal} {dict(principal.claims)}"


async def users(request: AccessRequest) -> Principal | str | None:
    """Look at the cookie, then at the credential, as an application with a database does."""
    await asyncio.sleep(0)
    name = request.cookies.get("user") or (request.credential or "").removesuffix("-secret")
    if name == "eve":
        raise AccessDenied("the trial has ended", detail="account 7 is not paid: see the billing page")
    return Principal(name, {"plan": PLANS[name]}) if name in PLANS else None


def cookie(name: str) -> dict[str, Any]:
    return {"additional_headers": {"Cookie": f"user={name}"}}


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def refusal(server: Serving, **options: Any) -> tuple[int, Frame]:
    """Return the status and the body that a handshake is refused with."""
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect(**options):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)


async def said(client: RawClient) -> str:
    await ask(client)
    return str((await client.until("turn.ended"))["heard"]["text"])


async def test_it_sees_the_request(wire: WireKind) -> None:
    """Headers in any case, cookies, address, path, and of the query the names alone."""
    seen: list[AccessRequest] = []

    async def look(request: AccessRequest) -> str | None:
        seen.append(request)
        return "ann"

    async with serving(whoami, wire, authenticator=look) as server, http(server) as client:
        answer = await client.request(
            "GET",
            "/v1/sessions?limit=1&key=hidden&key=x&empty=",
            headers={"X-Team": "red", "Cookie": "user=ann; a=b"},
        )
        assert answer.status_code == 404  # it has no store; the client is known
        async with server.connect(**bearer("token")) as socket:
            assert await said(socket) == "ann {}"
    over_http, handshake = seen
    assert over_http.headers["x-team"] == over_http.headers["X-TEAM"] == "red"
    assert over_http.cookies == {"user": "ann", "a": "b"}
    assert (over_http.path, over_http.address) == ("/v1/sessions", "127.0.0.1")
    assert over_http.query_names == ("limit", "key", "empty")
    assert over_http.credential is None
    assert "hidden" not in repr(over_http) + repr(over_http.headers)
    assert (handshake.path, handshake.credential) == ("/v1/session", "token")


async def test_a_principal_has_claims_for_its_agents(wire: WireKind) -> None:
    """By cookie, by header, by the first frame, over HTTP and in a batch."""
    ann = "ann {'plan': 'pro'}"
    async with serving(whoami, wire, authenticator=users) as server, http(server) as client:
        for options in (cookie("ann"), bearer("ann-secret")):
            async with server.connect(**options) as socket:
                assert await said(socket) == ann
        async with server.connect() as socket:
            # The input waits in order while the authenticator works.
            await socket.send({"type": "session.open", "auth": "ann-secret"})
            assert await said(socket) == ann
        for headers, auth in (({"Cookie": "user=ann"}, {}), ({}, {"auth": "ann-secret"})):
            async with client.stream("/v1/turns", {"text": "x", **auth}, headers) as stream:
                assert (await stream.end())[-1]["heard"]["text"] == ann
        answer = await client.post("/v1/batch", {"inputs": [{"text": "x"}]}, {"Cookie": "user=ann"})
        assert answer.json()["results"][0]["text"] == ann


async def test_without_a_credential_the_client_is_refused(wire: WireKind) -> None:
    """401 over HTTP, 4401 for a first frame; a wrong token in a header is 401 before the upgrade."""
    async with serving(whoami, wire, authenticator=users, metrics=True) as server, http(server) as client:
        assert (await refusal(server, **bearer("wrong")))[0] == 401
        for first in ({"type": "session.open", "auth": "no"}, {"type": "input.text", "id": "i", "text": "x"}):
            async with server.connect() as socket:
                await socket.send(first)
                assert (await socket.closed())[0] == 4401
        for path in ("/v1/turns", "/v1/sessions", "/v1/tickets"):
            assert (await client.post(path, {"text": "x"})).status_code == 401
        assert (await client.post("/v1/batch", {"inputs": [{"text": "x"}]})).status_code == 401
        for path in ("/v1/sessions", "/v1/sessions/s_1/messages", "/metrics"):
            assert (await client.request("GET", path)).status_code == 401
        assert (await client.request("GET", "/metrics", headers={"Cookie": "user=ann"})).status_code == 200
        assert len(server.sessions) == 0


async def test_a_denial_has_a_reason(wire: WireKind, caplog: pytest.LogCaptureFixture) -> None:
    """403, or 4403 after the upgrade, with the reason; the log has the author's cause and remedy, once."""
    caplog.set_level(logging.WARNING, "bargein.server")
    rare_log._next.clear()
    async with serving(whoami, wire, authenticator=users) as server, http(server) as client:
        status, body = await refusal(server, **cookie("eve"))
        assert (status, body["code"], body["message"]) == (403, "forbidden", "the trial has ended")
        answer = await client.post("/v1/turns", {"text": "x", "auth": "eve-secret"})
        assert (answer.status_code, answer.json()["message"]) == (403, "the trial has ended")
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": "eve-secret"})
            assert await socket.closed() == (4403, "the trial has ended")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["the authenticator denies a client: account 7 is not paid: see the billing page"]


async def raises(request: AccessRequest) -> str | None:
    raise ConnectionError(f"no route to the database of {request.credential}")


async def exits(request: AccessRequest) -> str | None:
    raise SystemExit(request.credential)


async def cancels_itself(request: AccessRequest) -> str | None:
    raise asyncio.CancelledError(request.credential)


async def hangs(request: AccessRequest) -> str | None:
    await asyncio.Event().wait()
    return "ann"


async def hangs_on(request: AccessRequest) -> str | None:
    """Swallow the cancellation, and fail late."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)
    raise ValueError(request.credential)


Check = Callable[[AccessRequest], Awaitable[Any]]


@pytest.mark.parametrize("check", [raises, exits, cancels_itself, hangs, hangs_on])
async def test_an_authenticator_that_fails_lets_clients_try_again(
    wire: WireKind, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with a time, 1013 after the upgrade: a database that is down ends no client for good."""
    caplog.set_level(logging.WARNING)
    rare_log._next.clear()
    async with (
        serving(whoami, wire, authenticator=check, authenticator_s=0.05) as server,
        http(server) as client,
    ):
        answer = await client.post("/v1/turns", {"text": "x"}, {"Authorization": "Bearer hidden"})
        assert (answer.status_code, answer.json()["retryable"]) == (503, True)
        assert int(answer.headers["retry-after"]) > 0
        assert (await refusal(server, **bearer("hidden")))[0] == 503
        assert len(server.sessions) == 0
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("bargein")]
    assert len(lines) == 1
    assert "authenticator" in lines[0]
    assert "hidden" not in caplog.text


async def test_a_failure_for_a_first_frame_is_1013(wire: WireKind) -> None:
    """The client tries again."""

    async def check(request: AccessRequest) -> str | None:
        return await raises(request) if request.credential else None

    async with serving(whoami, wire, authenticator=check) as server, server.connect() as socket:
        await socket.send({"type": "session.open", "auth": "hidden"})
        assert await socket.closed() == (1013, "the credential cannot be checked now")


@pytest.mark.parametrize("found", [7, "", True, b"ann"])
async def test_a_principal_of_another_type_is_none(
    wire: WireKind, found: object, caplog: pytest.LogCaptureFixture
) -> None:
    """401, and one line that names the type."""
    caplog.set_level(logging.WARNING)
    rare_log._next.clear()

    async def check(request: AccessRequest) -> Any:
        return found

    async with serving(whoami, wire, authenticator=check) as server:
        assert (await refusal(server, **bearer("hidden")))[0] == 401
    assert f"returned {type(found).__name__}" in caplog.text


async def test_a_client_that_leaves_takes_its_check_along(wire: WireKind) -> None:
    """The authenticator does not work for connections that are gone."""
    running = 0

    async def check(request: AccessRequest) -> str | None:
        nonlocal running
        if request.credential is None:
            return None
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1
        return None

    async with serving(whoami, wire, authenticator=check) as server:
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": "x"})
            await until(lambda: running, "the check")
        await until(lambda: not running, "its end")


async def test_frames_before_the_authenticator_has_answered_are_bounded(wire: WireKind) -> None:
    """A client that is not known yet may send as many bytes as one frame has."""

    async def check(request: AccessRequest) -> str | None:
        if request.credential is not None:
            await asyncio.Event().wait()
        return None

    async with serving(whoami, wire, authenticator=check, max_frame_bytes=4096) as server:
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": "x"})
            for number in range(4):
                await socket.send({"type": "input.text", "id": f"i{number}", "text": "x" * 1200})
            assert (await socket.closed())[0] == 4429  # 1013 if the authenticator ends it


async def test_a_resume_asks_again(wire: WireKind) -> None:
    """Another principal gets a fresh session, a denied one none, and new claims are seen."""
    plans = {"ann": "free"}

    async def check(request: AccessRequest) -> Principal | None:
        name = request.cookies.get("user", "")
        if plans.get(name) == "blocked":
            raise AccessDenied("the account is blocked")
        return Principal(name, {"plan": plans.get(name, "")}) if name else None

    async with serving(whoami, wire, authenticator=check) as server:
        async with server.connect(**cookie("ann")) as ann:
            assert await said(ann) == "ann {'plan': 'free'}"
            opened = ann.frames[0]
        resume = {
            "session_id": opened["session_id"],
            "token": opened["token"],
            "cursor": {"epoch": opened["epoch"], "seq": 0},
        }
        async with server.connect(**cookie("bob")) as bob:
            await bob.send({"type": "session.open", "resume": resume})
            refused = await bob.receive()
            assert (refused["resumed"], refused["reason"]) == (False, "unknown_session")
        plans["ann"] = "pro"
        async with server.connect(**cookie("ann")) as ann:
            await ann.send({"type": "session.open", "resume": resume})
            assert (await ann.receive())["resumed"]
            await ann.until("replay.done")
            await ask(ann, id="i2")
            assert (await ann.until("turn.ended"))["heard"]["text"] == "ann {'plan': 'pro'}"
        plans["ann"] = "blocked"
        assert (await refusal(server, **cookie("ann")))[0] == 403


async def test_wrong_credentials_have_a_rate(wire: WireKind) -> None:
    """A database is asked about so many guesses from one address and no more; cookies are no guesses."""
    asked = 0

    async def check(request: AccessRequest) -> str | None:
        nonlocal asked
        asked += 1
        return request.cookies.get("user")

    async with serving(whoami, wire, authenticator=check) as server, http(server) as client:
        statuses = [
            (await client.post("/v1/tickets", {}, {"Authorization": "Bearer no"})).status_code
            for _ in range(4 * FAILURES_PER_S)
        ]
        assert set(statuses) == {401, 429}
        assert asked == statuses.count(401)
        assert (await client.post("/v1/tickets", {}, {"Cookie": "user=ann"})).status_code == 201


async def test_a_backend_issues_tickets_with_claims(wire: WireKind) -> None:
    """Good once, for the principal that the backend knows."""

    async def nobody(request: AccessRequest) -> None:
        """Admit tickets alone."""

    async with serving(whoami, wire, authenticator=nobody) as server:
        ticket = issue_ticket(server.app, Principal("ann", {"plan": "pro"}))
        async with server.connect(["bargein.v1.json", f"bargein.ticket.{ticket}"]) as socket:
            assert await said(socket) == "ann {'plan': 'pro'}"
        assert (await refusal(server, subprotocols=["bargein.v1.json", f"bargein.ticket.{ticket}"]))[0] == 401
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": issue_ticket(server.app, "bob")})
            assert await said(socket) == "bob {}"


async def test_a_ticket_without_an_authenticator_is_an_error() -> None:
    """Such an application looks at none; and each principal has an id."""
    with pytest.raises(ValueError, match="without an authenticator"):
        issue_ticket(create_app(whoami), "ann")
    with pytest.raises(ValueError, match="id of a principal is empty"):
        issue_ticket(create_app(whoami, authenticator=users), "")
