"""Failures of a model's server in the log: the cause and the remedy, no key and nothing that was said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from bargein_server.agent import TurnFailed
from bargein_server.agents.chat_completions import DEFAULT_MODEL, OpenAIAgent
from bargein_server.agents.model_failures import failing_upstream, may_pass_at_once
from memory_client import Line, serve
from model_server import Call, Upstream

KEY = "sk-proj-abcdefgh12345678"
SAID = "My password is hunter2 and I live in Harbour Street"


async def logged(agent: OpenAIAgent, caplog: pytest.LogCaptureFixture) -> str:
    """Run a turn that fails; return the one line of the log."""
    sessions = serve(agent)
    line = Line(sessions)
    with caplog.at_level(logging.INFO):
        line.ask(SAID)
        await line.until("turn.ended")
        await sessions.shut_down()
    [record] = [record for record in caplog.records if record.name.startswith("bargein")]
    assert line.ends()[0].status == "failed"
    assert record.exc_info is None
    return record.getMessage()


async def answered(answer: Callable[[Call], None], caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Return the line for a server that answers so, and the server's host."""
    async with Upstream(answer) as upstream:
        agent = OpenAIAgent(model="m-1", base_url=upstream.url, api_key=KEY, max_retries=0)
        return await logged(agent, caplog), upstream.url.removeprefix("http://").removesuffix("/v1")


@pytest.mark.parametrize(
    ("status", "body", "told", "remedy"),
    [
        (401, {"error": {"message": f"Incorrect key: {KEY}."}}, "401 Incorrect key: [key]", "API_KEY"),
        (401, {"error": {"message": "Incorrect: sk-pr***5678"}}, "401 Incorrect: [key]", "API_KEY"),
        (403, {"detail": "no access"}, "403 no access", "OPENAI_API_KEY"),
        (404, {"error": {"message": "No model `m-1`"}}, "404 No model `m-1`", "model's name"),
        (404, "<html><style>x</style><h1>Not Found</h1></html>", "404 Not Found", "OPENAI_BASE_URL"),
        (405, None, "405;", "/v1"),
        (429, {"error": {"message": "You exceeded your quota"}}, "429 You exceeded your quota", "credit"),
        (500, {"error": "boom"}, "500 boom", ""),
        (400, {"error": {"message": f"Invalid content: '{SAID}'"}}, "400 Invalid content: […]", ""),
        (400, {"error": {"message": "Invalid value 'hunter2' here"}}, "400 Invalid value […] here", ""),
        (400, {"message": "you said I live in Harbour Street, no"}, "400 you said […] no", ""),
    ],
)  # fmt: skip
async def test_a_refusal(
    status: int, body: Any, told: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names model, host, status, the server's message and what to do."""
    line, host = await answered(lambda call: call.reply(status, body), caplog)
    assert f"failed: upstream (model m-1 at {host}: {told}" in line
    assert remedy in line
    assert KEY not in line
    assert "hunter2" not in line
    assert "Harbour" not in line


async def test_a_wrong_path(caplog: pytest.LogCaptureFixture) -> None:
    """A page where the API should be says which setting is wrong."""

    def page(call: Call) -> None:
        call._write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")

    line, _ = await answered(page, caplog)
    assert "expected a stream of events, got text/html; check OPENAI_BASE_URL" in line


async def test_an_error_within_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    """The server's message is told as well."""

    def report(call: Call) -> None:
        call.open()
        call.event({"error": {"message": f"overloaded by '{SAID}'"}})

    line, _ = await answered(report, caplog)
    assert "the server reported overloaded by […]" in line


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1/v1", "at 127.0.0.1:1: cannot connect"),
        ("http://user:secret@127.0.0.1:1/v1", "at 127.0.0.1:1: cannot connect"),
        ("http://nowhere.invalid/v1", "at nowhere.invalid: cannot connect"),
    ],
)
async def test_a_wrong_address(url: str, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing answers there, or it is no address; a password in it stays out of the log."""
    line = await logged(OpenAIAgent(model="m-1", base_url=url, api_key=KEY, max_retries=0), caplog)
    assert told in line
    assert "secret" not in line


@pytest.mark.parametrize(
    "url", ["localhost:1/v1", "http://[::1/v1", "ftp://localhost/v1", "https://", "http://h:x"]
)
def test_what_is_no_address(url: str) -> None:
    """It is refused when the agent is made."""
    with pytest.raises(ValueError, match="of the form https://host/v1"):
        OpenAIAgent(model="m", base_url=url)


@pytest.mark.parametrize("key", ["key\n", " key ", "key"])
async def test_a_key_with_blanks_around_it(key: str) -> None:
    """As files and shells add them."""
    async with Upstream(lambda call: call.answer("ok")) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url, api_key=key))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
        assert upstream.calls[0].headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("failure", "again", "retryable"),
    [
        (httpx2.ReadError("x"), True, True),
        (httpx2.RemoteProtocolError("x"), True, True),
        (httpx2.ConnectTimeout("x"), True, True),
        (httpx2.ReadTimeout("x"), False, True),
        (httpx2.PoolTimeout("x"), False, True),
        (httpx2.DecodingError("x"), True, True),
        (httpx2.InvalidURL("x"), False, False),
        (httpx2.UnsupportedProtocol("x"), False, False),
        (openai.APIConnectionError(request=httpx2.Request("GET", "http://x")), True, True),
    ],
)
def test_errors_of_the_http_client(failure: Exception, again: bool, retryable: bool) -> None:
    """SDKs before 3 let them through: they fail the turn as those that the SDK wraps."""
    assert may_pass_at_once(failure) is again
    with pytest.raises(TurnFailed) as failed, failing_upstream("m", "http://h/v1", KEY, list):
        raise failure
    assert failed.value.retryable is retryable
    assert failed.value.reason == ("overload" if isinstance(failure, httpx2.PoolTimeout) else "upstream")
    assert failed.value.detail is not None


def test_a_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key alone is enough at OpenAI's own server."""
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert OpenAIAgent().model == DEFAULT_MODEL
