"""`POST /v1/batch`: many inputs, one result each, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

import bargein_protocol as bp
from bargein_server import BearerTokens, Output, Settings, Turn, TurnFailed
from live_server import WireKind, serving
from sse_client import http
from waiting import until


class Answering:
    """An agent that does what it is told, and counts how many of it there are.

    Attributes:
        running: How many run now.
        most: How many ran at a time.
        ended: Why each that was cut was cut.
    """

    def __init__(self) -> None:
        self.running = self.most = 0
        self.ended: list[str | None] = []

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield f"{turn.text}: "
            await asyncio.sleep(0.001)
            if turn.text == "fail":
                raise TurnFailed("upstream", retryable=True)
            if turn.text == "raise":
                raise ValueError("nobody sees this")
            if turn.text == "hang":
                await asyncio.Event().wait()
            turn.add_usage(2, 1)
            yield str((turn.input.metadata or {}).get("n", "ok"))
        finally:
            self.running -= 1
            if turn.reason is not None:
                self.ended.append(turn.reason)


def inputs(*texts: str) -> dict[str, Any]:
    return {"inputs": [{"text": text} for text in texts]}


async def test_results_come_in_order_and_an_error_in_one_loses_no_other(wire: WireKind) -> None:
    """Failures say what failed, and nothing of an exception."""
    async with serving(Answering(), wire) as server, http(server) as client:
        body = inputs("a", "fail", "raise", "b")
        body["inputs"][0] |= {"id": "first", "metadata": {"n": 7}}
        answer = await client.post("/v1/batch", body)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        usage = {"input_tokens": 2, "output_tokens": 1}
        assert answer.json() == {
            "results": [
                {"index": 0, "id": "first", "status": "completed", "reason": "completed", "text": "a: 7",
                 "usage": usage},
                {"index": 1, "status": "failed", "reason": "upstream", "retryable": True, "text": "fail: "},
                {"index": 2, "status": "failed", "reason": "agent_error", "text": "raise: "},
                {"index": 3, "status": "completed", "reason": "completed", "text": "b: ok", "usage": usage},
            ]
        }  # fmt: skip
        assert len(server.sessions) == 0


@pytest.mark.parametrize(("asked", "most"), [(None, 3), (2, 2), (50, 3)])
async def test_so_many_run_at_a_time(wire: WireKind, asked: int | None, most: int) -> None:
    """The server's limit, or less when less was asked for."""
    agent = Answering()
    async with serving(agent, wire, max_batch_concurrency=3) as server, http(server) as client:
        body = inputs(*map(str, range(20))) | ({} if asked is None else {"concurrency": asked})
        results = (await client.post("/v1/batch", body)).json()["results"]
        assert [result["text"] for result in results] == [f"{n}: ok" for n in range(20)]
        assert agent.most == most


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
async def test_results_are_streamed_as_they_finish(wire: WireKind, accept: str) -> None:
    """One that hangs delays no other; while all are silent the line is kept alive."""
    agent = Answering()
    limits: dict[str, Any] = {"heartbeat_s": 0.05, "batch_item_s": 0.5}
    async with serving(agent, wire, **limits) as server, http(server) as client:
        answer = await client.post("/v1/batch", inputs("hang", "a", "b"), {"Accept": accept})
        assert answer.headers["content-type"].startswith(accept)
        assert answer.headers["x-accel-buffering"] == "no"
        lines = answer.text.split("\n")
        if accept == "text/event-stream":
            assert lines.count("event: batch.result") == 3
            assert ": heartbeat" in lines
            lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        else:
            assert lines.count("") > 1
        results = [json.loads(line) for line in lines if line]
        assert {result["index"] for result in results[:2]} == {1, 2}
        assert (results[2]["status"], results[2]["reason"]) == ("failed", "timeout")


async def test_an_item_has_a_time_and_so_has_the_whole(wire: WireKind) -> None:
    """Who is late is cut and told so; who never began fails in the same way."""
    agent = Answering()
    async with serving(agent, wire, max_batch_concurrency=1) as server, http(server) as client:
        body = inputs("hang", "a") | {"item_timeout_ms": 50}
        late, fine = (await client.post("/v1/batch", body)).json()["results"]
        assert (late["status"], late["reason"], late["retryable"]) == ("failed", "timeout", True)
        assert late["text"] == "hang: "
        assert fine["status"] == "completed"
        body = inputs("a", "hang", "b") | {"timeout_ms": 100}
        results = (await client.post("/v1/batch", body)).json()["results"]
        assert [(r["status"], r["reason"]) for r in results] == [
            ("completed", "completed"), ("failed", "timeout"), ("failed", "timeout"),
        ]  # fmt: skip
        assert agent.ended == ["timeout", "timeout"]
        assert len(server.sessions) == 0


async def test_nothing_begins_when_the_time_is_up(wire: WireKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer may fire a hair before the clock says that it is time: what waits does not begin then."""
    patient = asyncio.wait

    async def hasty(waited: Iterable[asyncio.Future[Any]], *, timeout: float | None = None) -> object:
        return await patient(waited, timeout=None if timeout is None else timeout - 0.003)

    agent = Answering()
    async with serving(agent, wire, max_batch_concurrency=1) as server, http(server) as client:
        monkeypatch.setattr(asyncio, "wait", hasty)
        for _ in range(20):
            answer = await client.post("/v1/batch", inputs("hang", "b") | {"timeout_ms": 10})
            assert [result["reason"] for result in answer.json()["results"]] == ["timeout"] * 2
        assert set(agent.ended) == {"timeout"}  # on a busy machine one may not have begun either


async def test_a_full_server_fails_the_items_and_not_the_batch(wire: WireKind) -> None:
    """Each says the code that an input or a connection would get."""
    async with (
        serving(Answering(), wire, max_running_turns=1, max_waiting_turns=0) as server,
        http(server) as client,
    ):
        results = (await client.post("/v1/batch", inputs("a", "b", "c"))).json()["results"]
        assert [(result["status"], result["reason"]) for result in results] == [
            ("completed", "completed"), ("failed", "at_capacity"), ("failed", "at_capacity"),
        ]  # fmt: skip
        assert [result.get("retryable", False) for result in results] == [False, True, True]


async def test_leaving_ends_what_runs(wire: WireKind) -> None:
    """Nobody could come back for it."""
    agent = Answering()
    async with serving(agent, wire) as server, http(server) as client:
        asking = asyncio.create_task(client.post("/v1/batch", inputs("hang", "hang")))
        await until(lambda: agent.running == 2)
        asking.cancel()
        await until(lambda: agent.running == 0)
        assert agent.ended == ["session_closed"] * 2
        await until(lambda: len(server.sessions) == 0)


async def test_bounds_of_a_batch(wire: WireKind) -> None:
    """Too many inputs, none, too many bytes, values that nest too deep: nothing is begun."""
    agent = Answering()
    limits: dict[str, Any] = {"max_batch_inputs": 2, "max_batch_bytes": 2048}
    async with serving(agent, wire, **limits) as server, http(server) as client:
        deep: Any = {}
        for _ in range(70):
            deep = {"a": deep}
        for body, status in (
            (inputs("a", "b", "c"), 413),
            (inputs("x" * 3000), 413),
            (inputs(), 422),
            ({"inputs": [{"tekst": "a"}]}, 422),
            ({"inputs": [{"text": "a", "metadata": deep}]}, 422),
            ({"inputs": [{"text": "a"}], "concurrency": 0}, 422),
        ):
            assert (await client.post("/v1/batch", body)).status_code == status
        assert agent.most == 0
    assert Settings().max_batch_inputs == 1000


async def test_a_batch_needs_a_credential(wire: WireKind) -> None:
    """As every session does."""
    tokens = BearerTokens({"secret": "ann"})
    async with serving(Answering(), wire, authenticator=tokens) as server, http(server) as client:
        assert (await client.post("/v1/batch", inputs("a"))).status_code == 401
        known = await client.post("/v1/batch", inputs("a"), {"Authorization": "Bearer secret"})
        assert known.json()["results"][0]["status"] == "completed"


async def mailing(turn: Turn) -> AsyncIterator[Output]:
    """An agent with two calls of one tool that need consent, and one that the client runs."""
    for call_id in ("c_1", "c_2"):
        yield bp.ToolCall(call_id=bp.CallId(call_id), name="mail")
        decision = turn.tools.expect(bp.CallId(call_id), bp.ToolDecision)
        yield bp.ToolConfirm(call_id=bp.CallId(call_id), arguments={})
        yield "yes " if (await decision).allow else "no "
    yield bp.ToolCall(call_id=bp.CallId("c_3"), name="locate")
    answer = turn.tools.expect(bp.CallId("c_3"), bp.ToolOutput)
    yield bp.ToolRunning(call_id=bp.CallId("c_3"), arguments={}, runs_in="client")
    yield (await answer).error or ""


@pytest.mark.parametrize(
    ("asked", "text", "refused"),
    [({}, "no no ", ["mail", "locate"]), ({"allow_tools": True}, "yes yes ", ["locate"])],
)
async def test_tools_that_wait_for_the_client_are_answered_at_once(
    wire: WireKind, asked: dict[str, Any], text: str, refused: list[str]
) -> None:
    """No input waits for a decision that cannot come; each refused tool is named once."""
    async with serving(mailing, wire) as server, http(server) as client:
        (result,) = (await client.post("/v1/batch", inputs("a") | asked)).json()["results"]
        assert result["status"] == "completed"
        assert result["text"] == f"{text}a batch has no client that runs tools"
        assert result["refused_tools"] == refused
