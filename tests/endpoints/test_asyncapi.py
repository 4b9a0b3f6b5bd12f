"""The document of the socket: legal AsyncAPI, and every event in its direction."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

import golden_vectors as wire
from bargein_server.app import SESSION_PATH
from bargein_server.endpoints.asyncapi import asyncapi
from live_server import echo, serving
from npm import installed

DOCUMENT: dict[str, Any] = asyncapi()
DIRECTIONS = {"client": "receive", "server": "send"}


async def test_it_is_legal_asyncapi() -> None:
    """By the schema that the initiative publishes."""
    path = await installed("@asyncapi/specs", "6.11.1", "schemas/3.0.0-without-$id.json")
    schema = json.loads(path.read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(DOCUMENT)] == []
    broken = {**DOCUMENT, "operations": {"send": {"action": "shout"}}}
    assert not validator.is_valid(broken), "the schema refuses something at all"


def resolved(reference: str) -> Any:
    """Return what a reference within the document names."""
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_event_is_a_message_of_its_operation(direction: str) -> None:
    """By its type; the operations are those of the server."""
    operation = DOCUMENT["operations"][DIRECTIONS[direction]]
    assert operation["action"] == DIRECTIONS[direction]
    messages = [resolved(resolved(item["$ref"])["$ref"]) for item in operation["messages"]]
    assert {message["name"] for message in messages} == {wire.tag(event) for event in wire.EVENTS[direction]}
    for message in messages:
        assert resolved(message["payload"]["$ref"])["properties"]["type"]["enum"] == [message["name"]]
        assert message["summary"]


def test_every_reference_leads_somewhere() -> None:
    """Also those inside the schemas; and no schema has what AsyncAPI reads otherwise."""

    def check(part: Any) -> None:
        if isinstance(part, dict):
            assert "discriminator" not in part
            if "$ref" in part:
                resolved(part["$ref"])
            for child in part.values():
                check(child)
        elif isinstance(part, list):
            for child in part:
                check(child)

    check(DOCUMENT)


@pytest.mark.parametrize("vector", wire.vectors()["messages"], ids=lambda vector: vector["name"])
def test_every_message_fits_its_schema(vector: dict[str, Any]) -> None:
    """What the vectors hold is legal by the document too."""
    [message] = [
        message for message in DOCUMENT["components"]["messages"].values()
        if message["name"] == vector["event"]["type"]
    ]  # fmt: skip
    schema = {**message["payload"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(vector["event"])


async def test_the_server_hands_it_out() -> None:
    """As it is in the repository; and the socket is where it says."""
    async with serving(echo) as server:
        status, headers, body = await server.request("/v1/asyncapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == DOCUMENT
    assert DOCUMENT["channels"]["session"]["address"] == SESSION_PATH
