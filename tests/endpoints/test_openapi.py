"""The document of the HTTP side: legal OpenAPI, every route in it, and a server that keeps to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Route

from bargein_server import BearerTokens, Settings, create_app
from bargein_server.endpoints.doors.operations import door_operations
from bargein_server.endpoints.doors.table import DOORS
from bargein_server.endpoints.openapi import openapi
from bargein_server.guard import admission
from live_server import Serving, echo, serving
from sse_client import http

DOCUMENT: dict[str, Any] = openapi()
TOKENS = BearerTokens({"secret": "tester"})
FOR_PEOPLE = ("/", "/static/{path:path}", "/page.json")
HOOKS = Path(__file__).parents[1] / "support" / "fuzzing.py"
FUZZ_S = 110.0
"""How long schemathesis may take at most; on a quiet machine it needs a tenth of it."""


def test_it_is_legal_openapi() -> None:
    """Version 3.1, by a validator that others wrote."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    broken = {**DOCUMENT, "paths": {"healthz": {}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()), "it refuses something at all"


def test_every_route_is_in_it() -> None:
    """And nothing that is not there."""
    assert _described(DOCUMENT) == _served(create_app(echo, Settings(metrics=True)))


def _described(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(path, method) for path, methods in document["paths"].items() for method in methods}


def _served(app: Starlette) -> set[tuple[str, str]]:
    return {
        (route.path.replace(":path}", "}"), method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in FOR_PEOPLE
        for method in route.methods or ()
        if method != "HEAD"
    }


@pytest.mark.parametrize("doors", [[name] for name in DOORS] + [list(DOORS)])
def test_doors_are_in_it_when_they_are_on(doors: list[Any]) -> None:
    """Their operations and no others; the document stays legal."""
    described = openapi(tuple(door_operations(doors)))
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []
    app = create_app(echo, Settings(metrics=True), doors=doors)
    assert _described(described) == _served(app)
    plain = _described(DOCUMENT)
    assert bool(_described(described) - plain) is (doors != ["twilio"])
    names = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_every_operation_has_a_name_of_its_own() -> None:
    """Generated clients call their functions so."""
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


async def test_the_server_hands_it_out() -> None:
    """As it is in the repository."""
    async with serving(echo) as server:
        status, headers, body = await server.request("/v1/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == DOCUMENT


async def fuzz(server: Serving, folder: Path, *arguments: str, **environment: str) -> str:
    """Run schemathesis; return what it says when it finds something."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/v1/openapi.json",
        "--max-examples", "10", "--seed", "1", "--no-color",
        "--generation-database", "none", *arguments,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "SCHEMATHESIS_HOOKS": str(HOOKS), **environment},
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), FUZZ_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode() if process.returncode else ""


@pytest.mark.nightly
@pytest.mark.parametrize(("token", "phases"), [("secret", "coverage,fuzzing"), ("wrong", "coverage")])
async def test_schemathesis_finds_nothing(
    token: str, phases: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes of the document, legal and illegal, is answered as the document says."""
    monkeypatch.setattr(admission, "FAILURES_PER_S", 10**6)
    async with serving(echo, authenticator=TOKENS, metrics=True, idle_s=0.01) as server:
        authorization = f"Authorization: Bearer {token}"
        found = await fuzz(server, tmp_path, "--phases", phases, "--header", authorization)
    assert not found, found


@pytest.mark.nightly
async def test_schemathesis_finds_nothing_at_the_doors(tmp_path: Path) -> None:
    """The document that a server with doors hands out has them, and they keep to it."""
    doors: list[Any] = list(DOORS)
    async with serving(echo, authenticator=TOKENS, doors=doors, idle_s=0.01) as server:
        status, _, body = await server.request("/v1/openapi.json")
        assert (status, json.loads(body)) == (200, openapi(tuple(door_operations(doors))))
        found = await fuzz(
            server, tmp_path, "--phases", "coverage,fuzzing", "--header", "Authorization: Bearer secret",
            # An order of messages is not in a schema: the last one must be the user's.
            "--exclude-checks", "positive_data_acceptance",
            "--include-path-regex", "/v1/(models|chat|ag-ui|realtime)|/api/chat",
        )  # fmt: skip
    assert not found, found


@pytest.mark.same_everywhere  # older versions of schemathesis load hooks in another way
@pytest.mark.parametrize(
    ("path", "unchecked", "brings"),
    [
        # A wrong token is 404: that a session is there is nobody's business.
        ("interrupt", "ignored_auth", {"session.opened"}),
        # And what is no event is taken all the same, and answered on the stream.
        ("events", "ignored_auth,negative_data_rejection", {"error", "pong"}),
    ],
)
async def test_schemathesis_finds_nothing_inside_a_session(
    path: str, unchecked: str, brings: set[str], tmp_path: Path
) -> None:
    """With a session that an event stream drives, and its token."""
    async with (
        serving(echo, heartbeat_s=1) as server,
        http(server) as client,
        client.stream("/v1/sessions", {}) as stream,
    ):
        opened = await stream.until("session.opened")
        reading = asyncio.create_task(stream.end())
        found = await fuzz(
            server, tmp_path, "--phases", "coverage,fuzzing", "--exclude-checks", unchecked,
            "--include-path-regex", f"session_id./{path}", "--exclude-method", "GET",
            BARGEIN_SESSION=opened["session_id"], BARGEIN_SESSION_TOKEN=opened["token"],
        )  # fmt: skip
        reading.cancel()
        await asyncio.wait({reading})
        assert not found, found
        assert brings <= {frame["type"] for frame in stream.frames}, "it came through"
