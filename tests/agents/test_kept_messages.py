"""Fields that a model's server wants back with its tool calls, in the same turn and in later ones."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, cast

import pytest

from bargein_server.agent import Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.kept_messages import MAX_CALLS, KeptMessages, ServerFields
from fake_turn import FakeSession
from memory_client import Line, serve
from model_server import Call, Upstream
from scripted_model import Model, Part, call, check_messages, say
from tool_conversation import add

Complaint = Callable[[dict[str, Any]], str | None]


def part(**delta: Any) -> Part:
    """Send a delta as it is."""

    def send(answer: Call, index: int) -> None:
        answer.delta(**delta)

    return send


class StrictModel(Model):
    """Model whose server refuses messages as some providers do."""

    def __init__(self, complaint: Complaint, *steps: list[Part]) -> None:
        super().__init__(*steps)
        self.refused: list[dict[str, Any]] = []
        self._complaint = complaint

    def __call__(self, answer: Call) -> None:
        check_messages(answer.body["messages"])
        for message in answer.body["messages"]:
            if "tool_calls" in message and (complaint := self._complaint(message)):
                self.refused.append(answer.body)
                answer.reply(400, {"error": {"message": complaint, "type": "invalid_request_error"}})
                return
        super().__call__(answer)

    def calling(self, request: int) -> list[dict[str, Any]]:
        """Return the messages with calls of a request."""
        return [message for message in self.requests[request]["messages"] if "tool_calls" in message]


async def ends(model: Model, turns: int = 2, agents: list[OpenAIAgent] | None = None) -> list[str]:
    """Run a conversation; return how its turns ended."""
    async with Upstream(model) as upstream:
        made = OpenAIAgent(model="m", base_url=upstream.url, tools=[add])
        if agents is not None:
            agents.append(made)
        sessions = serve(made)
        line = Line(sessions)
        for times in range(1, turns + 1):
            line.ask()
            await line.until("turn.ended", times)
        await sessions.shut_down()
        return [end.reason for end in line.ends()]


def wants_reasoning(message: dict[str, Any]) -> str | None:
    """As DeepSeek and Kimi do."""
    return (
        None if message.get("reasoning_content") else "thinking is enabled but reasoning_content is missing"
    )


def wants_signature(message: dict[str, Any]) -> str | None:
    """As Gemini does, for the first of parallel calls."""
    signature = message["tool_calls"][0].get("extra_content", {}).get("google", {}).get("thought_signature")
    return None if signature else "Function call is missing a thought_signature in functionCall parts."


def refuses_reasoning(message: dict[str, Any]) -> str | None:
    """As strict servers do."""
    return "property 'reasoning' is unsupported" if "reasoning" in message else None


async def test_reasoning_goes_back_with_its_calls() -> None:
    """In the next request of the turn, and in every later turn; never with a plain answer."""
    model = StrictModel(
        wants_reasoning,
        [part(reasoning_content="Let me "), part(reasoning_content="add."), call("add", a=1, b=2)],
        [part(reasoning_content="Now."), say("3")],
        [say("again")],
    )
    assert await ends(model) == ["completed"] * 2
    assert model.refused == []
    for request in (1, 2):
        assert [message["reasoning_content"] for message in model.calling(request)] == ["Let me add."]
    assert {"role": "assistant", "content": "3"} in model.requests[2]["messages"]


async def test_signatures_go_back_with_their_calls() -> None:
    """Fields of a call and of its function stay with that call; unknown fields of the message too."""
    google = {"google": {"thought_signature": "c2ln"}}
    functions = [{"name": "add", "arguments": text} for text in ('{"a":1,"b":2}', '{"a":1,"b":3}')]
    calls = [
        {"index": 0, "id": "i", "extra_content": google, "function": functions[0]},
        {"index": 1, "id": "j", "function": functions[1] | {"odd": [1]}},
    ]
    details = [{"type": "reasoning.text", "index": 0, "text": "Hm"}]
    more = [{"type": "reasoning.text", "index": 0, "text": ".", "signature": "s"}]
    model = StrictModel(
        wants_signature,
        [part(reasoning_details=details), part(reasoning_details=more), part(tool_calls=calls)],
        [say("done")],
        [say("again")],
    )
    assert await ends(model) == ["completed"] * 2
    assert model.refused == []
    for request in (1, 2):
        [message] = model.calling(request)
        first, second = message["tool_calls"]
        assert first["extra_content"] == google
        assert "extra_content" not in second
        assert second["function"]["odd"] == [1]
        assert second["function"]["arguments"] == '{"a":1,"b":3}'
        assert message["reasoning_details"] == [
            {"type": "reasoning.text", "index": 0, "text": "Hm.", "signature": "s"}
        ]


async def test_a_server_that_refuses_what_it_sent() -> None:
    """A field that the server names in its refusal is left out from then on."""
    model = StrictModel(
        refuses_reasoning,
        [part(reasoning="Hm."), call("add", a=1, b=2)],
        [say("3")],
        [part(reasoning="Hm."), call("add", a=1, b=2)],
        [say("3")],
    )
    assert await ends(model) == ["completed"] * 2
    assert len(model.refused) == 1


@pytest.mark.parametrize("complaint", [wants_reasoning, wants_signature])
async def test_a_field_that_is_lost(complaint: Complaint) -> None:
    """After a restart a stand-in takes its place, where the server accepts one."""

    def accepts_empty(message: dict[str, Any]) -> str | None:
        return None if "reasoning_content" in message else complaint(message)

    model = StrictModel(
        accepts_empty if complaint is wants_reasoning else complaint,
        [call("add", a=1, b=2)],
        [say("3")],
        [say("4")],
    )
    assert await ends(model) == ["completed"] * 2
    assert len(model.refused) == 1


async def test_a_server_that_is_never_content() -> None:
    """Its refusal ends the turn; nothing is asked for ever."""
    model = StrictModel(lambda message: "reasoning_content is wrong", [call("add", a=1, b=2)])
    assert await ends(model, turns=1) == ["upstream"]
    assert len(model.refused) <= 3


class SessionOf:
    """Turn of a session."""

    def __init__(self, session: FakeSession) -> None:
        self.session = session


def test_what_is_kept_is_bounded_and_ends_with_its_session() -> None:
    """The oldest calls go first; the end of a session frees all."""
    kept = KeptMessages()
    turn = cast(Turn, SessionOf(FakeSession()))
    for number in range(MAX_CALLS + 10):
        kept.keep(turn, [f"c{number}"], ServerFields({"reasoning_content": "x"}, [({}, {})]))
    [session] = kept._sessions.values()
    assert len(session.calls) == MAX_CALLS
    assert "c9" not in session.calls
    for number in range(10):
        kept.keep(turn, [f"d{number}"], ServerFields({"reasoning_content": "x" * 300_000}, [({}, {})]))
    assert list(session.calls) == ["d7", "d8", "d9"]
    del turn, session
    gc.collect()
    assert len(kept._sessions) == 0
