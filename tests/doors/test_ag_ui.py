"""AG-UI with its own client of both versions, whose verifier checks the order, and its pydantic models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from bargein_server import BearerTokens
from bargein_server.endpoints.doors.ag_ui import allows
from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from sse_client import http
from waiting import until

DRIVER = Path(__file__).with_name("run_driver.js")
EVENTS: TypeAdapter[Any] = TypeAdapter(Event)
BOTH = pytest.mark.parametrize("version", [0, 1], ids=["0.0.59", "1.0"])

Runs = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture(scope="module")
def driver() -> Iterator[JsonLines]:
    """Run the driver for all tests."""
    with json_lines(DRIVER) as running:
        yield running


@pytest.fixture
def runs(driver: JsonLines) -> Runs:
    """Return a function that runs a thread, and returns what it has at its end."""

    async def run(server: Serving, version: int, *steps: list[Any], **options: Any) -> dict[str, Any]:
        base = f"http://127.0.0.1:{server.port}"
        return await driver.ask({"base": base, "version": version, "steps": steps, **options})

    return run


def types(result: dict[str, Any]) -> list[str]:
    return [event["type"] for event in result["events"]]


def last(result: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = [event for event in result["events"] if event["type"] == kind][-1]
    return found


async def a_run(server: Serving) -> None:
    """Wait for a run."""
    await until(lambda: any(host.core.busy for host in getattr(server.app.state, "sessions", ())), "a run")


def newer_run(first: str) -> dict[str, Any]:
    """Return the body of a run after another one that is not over."""
    messages = [{"id": "1", "role": "user", "content": text} for text in (first, "hello")]
    return {"threadId": "thread-1", "runId": "r", "messages": messages}


def history(result: dict[str, Any]) -> Any:
    return json.loads(result["messages"][-1]["content"])


@BOTH
async def test_turns_of_a_thread(runs: Runs, version: int) -> None:
    """Two runs in one session; only 1.0 has outcomes and usage."""
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "hello"], ["send", "recall"])
        assert result["errors"] == []
        assert history(result) == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "You said hello."},
        ]
        first = next(event for event in result["events"] if event["type"] == "RUN_FINISHED")
        assert first.get("outcome") == ({"type": "success"} if version else None)
        assert first.get("usage") == ([{"inputTokens": 7, "outputTokens": 3}] if version else None)
        assert len(server.sessions) == 1


@BOTH
async def test_all_kinds_of_output(runs: Runs, version: int) -> None:
    """Everything has its event, in an order that the client accepts."""
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "look"])
        assert result["errors"] == []
        assert [kind for kind in types(result) if not kind.startswith("TEXT_MESSAGE")] == [
            "RUN_STARTED",
            "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END", "REASONING_END",
            "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_ARGS", "TOOL_CALL_END",
            "CUSTOM", "CUSTOM", "TOOL_CALL_RESULT", "STEP_STARTED", "STEP_FINISHED", "CUSTOM",
            "RUN_FINISHED",
        ]  # fmt: skip
        customs = {event["name"]: event["value"] for event in result["events"] if event["type"] == "CUSTOM"}
        assert customs == {
            "status": {"message": "looking", "icon": "eye"},
            "progress": {"value": 1, "total": 2, "unit": "stars", "label": None},
            "picture": {"url": "sky.png"},
        }
        assert last(result, "TOOL_CALL_RESULT")["content"] == '{"colour":"blue"}'
        roles = [message["role"] for message in result["messages"]]
        assert roles == ["user", "reasoning", "assistant", "assistant", "tool", "assistant", "assistant"]
        assert result["text"] == "Let me look. Too short.It is blue."


@BOTH
async def test_an_abort_interrupts(runs: Runs, version: int) -> None:
    """The client closes its request, and the next run has the heard part."""
    async with serving(play, doors=["ag-ui"]) as server:
        await runs(server, version, ["begin", "count"], ["seen", "5"], ["abort"])
        [host] = list(server.sessions)
        await until(lambda: not host.core.busy, "the end of the turn")
        [_, cut] = host.core.side_channel.messages()
        assert cut["content"].endswith("[interrupted]")
        assert cut["content"].startswith("1 2 3 4 5")


@BOTH
async def test_a_superseded_run_is_cancelled(runs: Runs, version: int) -> None:
    """Another client of the thread interrupts it; 1.0 has an outcome for that."""
    async with serving(play, doors=["ag-ui"]) as server, http(server) as plain:

        async def supersede() -> None:
            await until(
                lambda: any(host.core.busy for host in getattr(server.app.state, "sessions", ())), "a run"
            )
            await plain.post("/v1/ag-ui", newer_run("count"))

        other = asyncio.create_task(supersede())
        result = await runs(server, version, ["send", "count"])
        await other
        assert result["errors"] == []
        if version:
            assert last(result, "RUN_FINISHED")["outcome"] == {"type": "cancelled"}
        else:
            assert last(result, "CUSTOM")["name"] == "cancelled"
            assert last(result, "CUSTOM")["value"] == {"reason": "superseded"}


@BOTH
@pytest.mark.parametrize(
    ("status", "payload", "text"),
    [
        ("resolved", {"approved": True}, "May I? Done."),
        ("resolved", True, "May I? Done."),
        ("resolved", {"approved": False}, "May I? I leave it."),
        ("cancelled", None, "May I? I leave it."),
    ],
)
async def test_consent(runs: Runs, version: int, status: str, payload: Any, text: str) -> None:
    """A run ends with the interrupt, and the next one goes on with the turn."""
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "buy"], ["resume", status, payload])
        assert result["errors"] == []
        assert result["text"] == text
        finished = [event for event in result["events"] if event["type"] == "RUN_FINISHED"]
        [interrupt] = finished[0]["outcome"]["interrupts"]
        assert interrupt["toolCallId"] == last(result, "TOOL_CALL_START")["toolCallId"]
        assert interrupt["message"] == "Allow buy?"
        assert len(next(iter(server.sessions)).core.outside.turns()) == 1


@BOTH
async def test_a_tool_of_the_client(runs: Runs, version: int) -> None:
    """The run ends with the open call, and the next one has its result."""
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "locate"], ["output", "Oslo"])
        assert result["errors"] == []
        assert result["text"] == "Where are you? You are in Oslo."
        first = next(event for event in result["events"] if event["type"] == "RUN_FINISHED")
        call_id = last(result, "TOOL_CALL_START")["toolCallId"]
        assert first.get("outcome", {}).get("pendingToolCallIds") == ([call_id] if version else None)


@BOTH
async def test_a_failure(runs: Runs, version: int) -> None:
    """The run ends with an error; the next one works."""
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "fail"], ["send", "hello"])
        error = last(result, "RUN_ERROR")
        assert (error["code"], error["message"]) == ("upstream", "the model could not be reached")
        assert result["text"].endswith("You said hello.")


@BOTH
async def test_values_for_the_agent(runs: Runs, version: int) -> None:
    """State, context, tools and properties are the input's metadata."""
    tools = [{"name": "locate", "description": "", "parameters": {}}]
    parameters = {
        "tools": tools,
        "context": [{"description": "a", "value": "b"}],
        "forwardedProps": {"plan": 1},
    }
    async with serving(play, doors=["ag-ui"]) as server:
        result = await runs(server, version, ["send", "brief"], parameters=parameters)
        assert history(result) == parameters


async def test_a_protected_run_ends_with_its_section(runs: Runs) -> None:
    """A newer run waits; the older one is cancelled after the section."""
    async with serving(play, doors=["ag-ui"]) as server:
        older = asyncio.create_task(runs(server, 1, ["send", "section"]))
        await until(
            lambda: any(host.core.busy for host in getattr(server.app.state, "sessions", ())), "a run"
        )
        async with http(server) as plain:
            messages = [{"id": "1", "role": "user", "content": text} for text in ("section", "hello")]
            newer = await plain.post(
                "/v1/ag-ui", {"threadId": "thread-1", "runId": "r", "messages": messages}
            )
        assert "hello" in newer.text
        assert (await older)["text"] == "This is legal."


def events_of(body: str) -> list[dict[str, Any]]:
    """Return the events of a stream, each of which the protocol's models accept."""
    events = [json.loads(block.removeprefix("data: ")) for block in body.split("\n\n") if block]
    for event in events:
        EVENTS.validate_python(event)
    return events


@pytest.mark.parametrize("scene", ["hello", "look", "buy", "locate", "fail", "recall", "section"])
@pytest.mark.parametrize("version", [None, "1.0"])
async def test_every_event_is_valid(scene: str, version: str | None) -> None:
    """By the models of `ag-ui-protocol`."""
    async with serving(play, doors=["ag-ui"]) as server, http(server) as plain:
        asked: dict[str, Any] = {
            "threadId": "t", "runId": "r", "protocolVersion": version, "state": {}, "tools": [],
            "context": [], "messages": [{"id": "1", "role": "user", "content": scene}], "forwardedProps": {},
        }  # fmt: skip
        response = await plain.post("/v1/ag-ui", asked)
        events = events_of(response.text)
        assert events[0]["type"] == "RUN_STARTED"
        assert events[0].get("protocolVersion") == version
        assert [event["type"] for event in events].count("RUN_FINISHED") == (scene != "fail")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"threadId": None}, 422),
        ({}, 422),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 422),
        ({"threadId": "", "messages": [{"role": "user", "content": "a"}]}, 422),
        ({"messages": [{"role": "tool", "toolCallId": "c", "content": ""}]}, 409),
        ({"resume": [{"interruptId": "c", "status": "resolved"}]}, 409),
        ({"resume": [{"interruptId": "c", "status": "?"}]}, 422),
    ],
)
async def test_wrong_bodies(body: Any, status: int) -> None:
    """They are refused, with a reason."""
    async with serving(play, doors=["ag-ui"]) as server, http(server) as plain:
        whole = {"threadId": "t", "runId": "r", "messages": [], **body}
        response = await plain.post("/v1/ag-ui", whole)
        assert response.status_code == status
        assert response.json()["message"]


@pytest.mark.parametrize(
    ("payload", "allowed"),
    [
        (True, True), ({"approved": True}, True), ({"accepted": True}, True), ("yes", False), (None, False),
        ({}, False), ({"approved": "true"}, False), ({"approved": True, "allow": False}, False), (1, False),
    ],
)  # fmt: skip
def test_only_a_clear_answer_allows(payload: object, allowed: bool) -> None:
    """A client that answers in another form does not consent by accident."""
    assert allows(payload) is allowed


async def test_a_token_is_needed(runs: Runs) -> None:
    """Without one a run is refused."""
    async with serving(play, doors=["ag-ui"], authenticator=BearerTokens({"secret": "ann"})) as server:
        assert (await runs(server, 1, ["send", "hello"]))["errors"]
        assert (await runs(server, 1, ["send", "hello"], token="secret"))["text"] == "You said hello."
