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
from starlette.routing import Route

from bargein_server import BearerTokens, Settings, create_app
from bargein_server.documents import openapi
from serving import echo, serving

DOCUMENT: dict[str, Any] = openapi()
TOKENS = BearerTokens({"secret": "tester"})
FUZZ_S = 60.0
"""How long schemathesis may take at most; it needs a third of it."""


def test_it_is_legal_openapi() -> None:
    """Version 3.1, by a validator that others wrote."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    broken = {**DOCUMENT, "paths": {"healthz": {}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()), "it refuses something at all"


def test_every_route_is_in_it() -> None:
    """And nothing that is not there."""
    served = {
        (route.path, method.lower())
        for route in create_app(echo, Settings(metrics=True)).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == served


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


@pytest.mark.parametrize("token", ["secret", "wrong"])
async def test_schemathesis_finds_nothing(token: str, tmp_path: Path) -> None:
    """What it makes of the document, legal and illegal, is answered as the document says."""
    async with serving(echo, authenticator=TOKENS, metrics=True) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run",
            f"http://127.0.0.1:{server.port}/v1/openapi.json",
            "--header", f"Authorization: Bearer {token}",
            "--max-examples", "60", "--seed", "1", "--no-color", "--generation-database", "none",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), FUZZ_S)
        finally:
            if process.returncode is None:
                process.kill()
    text = output.decode()
    assert process.returncode == 0, text
