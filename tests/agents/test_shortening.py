"""Results of tools that are too long for the model."""

from __future__ import annotations

from typing import Any

from bargein_server.agents.chat_completions import OpenAIAgent
from memory_client import Line, serve
from model_server import Call, Upstream
from scripted_model import Model, call, check_messages, say

ERROR = {"message": "This model's maximum context length is 4000 tokens.", "code": 400}


class SmallModel(Model):
    """Model that refuses requests beyond a number of characters."""

    most = 4000

    def __call__(self, answer: Call) -> None:
        check_messages(answer.body["messages"])
        if sum(len(str(message.get("content"))) for message in answer.body["messages"]) > self.most:
            answer.reply(400, {"error": ERROR})
        else:
            super().__call__(answer)


async def asked(model: Model, *texts: str, tools: list[Any]) -> list[str]:
    """Run a conversation; return how its turns ended."""
    async with Upstream(model) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url, tools=tools))
        line = Line(sessions)
        for times, text in enumerate(texts, 1):
            line.ask(text)
            await line.until("turn.ended", times)
        await sessions.shut_down()
        return [end.reason for end in line.ends()]


async def read(page: int) -> str:
    """Read a page."""
    return f"page {page} " + "x" * 3000


async def test_a_result_that_is_too_long() -> None:
    """It is cut to its begin, with a mark, and the turn goes on."""

    async def dump() -> str:
        """Read all."""
        return "begin " + "x" * 1_000_000

    model = SmallModel([call("dump")], [say("short")])
    assert await asked(model, "go", tools=[dump]) == ["completed"]
    [result] = model.results()
    assert result.startswith("begin x")
    kept = len(result.rpartition("\n[shortened: ")[0])
    assert result.endswith(f"\n[shortened: {1_000_006 - kept} characters left out]")


async def test_the_oldest_results_give_way_first() -> None:
    """What the model asked for last stays as it is."""
    model = SmallModel([call("read", page=1)], [call("read", page=2)], [say("done")])
    assert await asked(model, "go", tools=[read]) == ["completed"]
    first, second = model.results()
    assert "[shortened: " in first
    assert first.startswith("page 1 ")
    assert second == "page 2 " + "x" * 3000


async def test_the_history_gives_way_when_it_is_the_larger_part() -> None:
    """Old exchanges are left out before short results are touched."""
    model = SmallModel([say("y" * 1500)], [say("y" * 1500)], [call("note")], [say("done")])

    async def note() -> str:
        """Note."""
        return "z" * 1500

    assert await asked(model, "one", "two", "three", tools=[note]) == ["completed"] * 3
    assert model.results() == ["z" * 1500]
    assert "one" not in [message["content"] for message in model.requests[-1]["messages"]]


async def test_what_cannot_be_made_shorter() -> None:
    """Many short results that do not fit fail the turn, after a bounded number of requests."""
    model = SmallModel(*[[call("add", a=1, b=2)] for _ in range(30)])
    model.most = 5
    assert await asked(model, "go on", tools=[read]) == ["upstream"]
    assert len(model.requests) == 1
