"""A model that fails behind an agent of a framework: the reason, and the one line in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import openai
import pytest
from httpx2 import AsyncClient, ReadError, Request
from langchain.agents import create_agent
from langchain_core.tools import tool

from bargein_server.frameworks import langgraph_agent
from framework_agents import MAKERS, Desk, Maker, langchain_model
from live_server import Frame, RawClient, ask, serving
from model_server import Call, Upstream
from strict_model import StrictModel
from strict_model import call as called

each = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
KEY = "sk-secret123"


@asynccontextmanager
async def served(maker: Maker, script: Callable[[Call], None]) -> AsyncIterator[RawClient]:
    async with Upstream(script) as upstream, AsyncClient() as http:
        async with serving(maker(upstream.url, Desk(), http)) as server, server.connect() as client:
            yield client


async def failed(client: RawClient) -> Frame:
    await ask(client, "my own words are secret")
    ended = await client.until("turn.ended")
    assert ended["status"] == "failed"
    return ended


def line_of(caplog: pytest.LogCaptureFixture) -> str:
    """Return the only line of the log about the failure."""
    # The Agents SDK has a line of its own, without text.
    lines = [each for each in caplog.records if each.name.startswith("bargein")]
    [record] = [each for each in lines if each.levelname in ("WARNING", "ERROR")]
    assert record.exc_info is None
    return record.getMessage()


def refusing(status: int) -> Callable[[Call], None]:
    message = f"refused, with {KEY}, at: my own words are secret"
    error = {"message": message, "type": "invalid_request_error", "code": "none"}
    return lambda request: request.reply(status, {"error": error})


@each
@pytest.mark.parametrize(("status", "retryable"), [(401, False), (404, False), (429, True), (500, True)])
async def test_a_refused_request_fails_as_upstream(
    maker: Maker, status: int, retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the status, the message and the remedy, and neither the key nor the conversation."""
    async with served(maker, refusing(status)) as client:
        ended = await failed(client)
    assert (ended["reason"], ended.get("retryable", False)) == ("upstream", retryable)
    line = line_of(caplog)
    assert f"{status} refused" in line
    assert "secret" not in line
    remedies = {401: "check OPENAI_API_KEY", 404: "check the model's name", 429: "limits", 500: "500"}
    assert remedies[status] in line


@each
async def test_a_broken_stream_fails_as_upstream(maker: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a library lets the error of its HTTP client through."""

    def breaking(request: Call) -> None:
        request.open()
        request.cut()

    async with served(maker, breaking) as client:
        ended = await failed(client)
    assert (ended["reason"], ended["retryable"]) == ("upstream", True)
    assert "the connection broke" in line_of(caplog)


@each
async def test_a_server_that_is_not_running(maker: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """The remedy is the address."""
    async with AsyncClient() as http:
        agent = maker("http://127.0.0.1:9/v1", Desk(), http)
        async with serving(agent) as server, server.connect() as client:
            ended = await failed(client)
    assert (ended["reason"], ended["retryable"]) == ("upstream", True)
    assert "cannot connect; is it running? check OPENAI_BASE_URL" in line_of(caplog)


@pytest.mark.parametrize(
    "error",
    [
        openai.APIConnectionError(request=Request("GET", "http://x")),
        ReadError("reset"),
        ValueError("a mistake"),
    ],
)
async def test_errors_of_tools_are_the_agents(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A tool may use the same libraries; its error is logged whole."""

    @tool
    async def broken(x: int) -> str:
        """Fail."""
        raise error

    model = StrictModel([called("broken", x=1)])
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = langgraph_agent(create_agent(langchain_model(upstream.url, http), [broken]))
        async with serving(agent) as server, server.connect() as client:
            assert (await failed(client))["reason"] == "agent_error"
    assert type(error).__name__ in caplog.text
