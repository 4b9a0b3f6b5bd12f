"""What an agent of each framework sends, asks and records, apart from where it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from httpx2 import AsyncClient

from framework_agents import MAKERS, Desk, Maker, langchain, langgraph, pydantic_ai_responses
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import PAUSE, StrictModel, Think, call, say
from waiting import until

each = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)


@asynccontextmanager
async def served(maker: Maker, model: StrictModel, desk: Desk) -> AsyncIterator[RawClient]:
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, desk, http)
        async with serving(agent, hold_s=100) as server, server.connect() as client:
            yield client


async def turn(client: RawClient, text: str = "go") -> list[Frame]:
    """Ask; return the frames of the turn."""
    start = len(client.frames)
    await ask(client, text, f"i{start}")
    await client.until("turn.ended")
    return client.frames[start:]


def of(frames: list[Frame], *kinds: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] in kinds]


@each
async def test_everything_is_sent_as_it_arrives(maker: Maker) -> None:
    """Text, name, arguments in pieces, begin, result, steps, usage: in this order."""
    model = StrictModel([say("Let me see."), call("look_up", city="Oslo")], [say("It is sunny.")])
    async with served(maker, model, Desk()) as client:
        frames = await turn(client)
    kinds = [frame["type"] for frame in frames]
    order = ["text.delta", "tool.call", "tool.call.delta", "tool.running", "tool.result"]
    assert sorted(order, key=kinds.index) == order
    deltas = of(frames, "tool.call.delta")
    assert len(deltas) > 3
    assert json.loads("".join(frame["arguments"] for frame in deltas)) == {"city": "Oslo"}
    assert kinds.index("tool.running") > max(at for at, kind in enumerate(kinds) if kind == "tool.call.delta")
    [running], [result] = of(frames, "tool.running"), of(frames, "tool.result")
    assert running["arguments"] == {"city": "Oslo"}
    assert (result["status"], result["output"]) == ("completed", "sunny in Oslo")
    assert "".join(frame["text"] for frame in of(frames, "text.delta")) == "Let me see.It is sunny."
    assert len(of(frames, "text.delta")) >= 2
    assert {"model", "think"} & {frame["kind"] for frame in of(frames, "step.ended")}
    assert frames[-1]["status"] == "completed"
    assert frames[-1]["usage"] == {"input_tokens": 20, "output_tokens": 4}


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if maker not in (langchain, langgraph)])
async def test_thoughts_are_sent(maker: Maker) -> None:
    """LangChain's model class for chat completions drops the field that servers send thoughts in."""
    model = StrictModel([Think("Hmm."), say("Yes.")])
    async with served(maker, model, Desk()) as client:
        frames = await turn(client)
    assert "".join(frame["text"] for frame in of(frames, "thought")) == "Hmm."
    assert "".join(frame["text"] for frame in of(frames, "text.delta")) == "Yes."


@each
@pytest.mark.parametrize("allow", [True, False])
async def test_the_user_decides_about_a_call(maker: Maker, allow: bool) -> None:
    """The tool runs after the consent only; a refused call has one result, and the history says so."""
    model, desk = StrictModel([call("book", flight="LH1")], [say("Well.")], [say("Bye.")]), Desk()
    async with served(maker, model, desk) as client:
        await ask(client, "go")
        question = await client.until("tool.confirm")
        assert desk.begun == []
        await client.send({"type": "tool.decision", "call_id": question["call_id"], "allow": allow})
        ended = await client.until("turn.ended")
        await turn(client, "thanks")
    assert ended["status"] == "completed"
    assert desk.begun == (["book(LH1)"] if allow else [])
    [result] = of(client.frames, "tool.result")
    asked_again = [said[1] for said in model.heard[-1] if said[0] == "result"]
    if allow:
        assert (result["status"], asked_again) == ("completed", ["booked LH1"])
    elif maker is langgraph:  # its tool got the answer and returned
        assert (result["status"], asked_again) == ("completed", ["not booked"])
    else:
        assert result["status"] == "cancelled"
        assert asked_again == ["cancelled: not allowed by the user"]


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if maker is not langgraph])
async def test_two_calls_are_asked_about_at_once(maker: Maker) -> None:
    """Each question is answered by the id of its call."""
    model = StrictModel([call("book", flight="LH1"), call("book", flight="LH2")], [say("Well.")])
    desk = Desk()
    async with served(maker, model, desk) as client:
        await ask(client, "go")
        questions = [await client.until("tool.confirm") for _ in range(2)]
        allowed = {json.dumps(question["arguments"]): question["call_id"] for question in questions}
        for text, call_id in allowed.items():
            await client.send({"type": "tool.decision", "call_id": call_id, "allow": "LH2" in text})
        assert (await client.until("turn.ended"))["status"] == "completed"
    assert desk.begun == ["book(LH2)"]


async def test_a_graph_that_asks_twice_in_a_node_is_answered_twice() -> None:
    """LangGraph interrupts a node once at a time, and runs it again after each answer; no tool runs twice."""
    model = StrictModel([call("book", flight="LH1"), call("book", flight="LH2")], [say("Well.")])
    desk = Desk()
    async with served(langgraph, model, desk) as client:
        await ask(client, "go")
        for _ in range(2):
            question = await client.until("tool.confirm")
            await client.send({"type": "tool.decision", "call_id": question["call_id"], "allow": True})
        assert (await client.until("turn.ended"))["status"] == "completed"
    assert sorted(desk.begun) == ["book(LH1)", "book(LH2)"]
    assert len({frame["call_id"] for frame in of(client.frames, "tool.confirm")}) == 2


@each
async def test_a_plain_tool_runs_in_a_thread_and_its_late_result_is_told(maker: Maker) -> None:
    """The loop goes on meanwhile; the thread is not stopped, and what it returns later is in the history."""
    model = StrictModel([call("look_up_slowly", city="Oslo")], [say("Yes.")])
    desk = Desk()
    async with served(maker, model, desk) as client:
        turn_id = await ask(client, "go")
        await client.until("tool.running")
        await until(lambda: desk.begun, "the thread")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        assert (await client.until("turn.ended"))["status"] == "interrupted"
        desk.late.set()
        await until(lambda: desk.ended, "the thread's end")
        await asyncio.sleep(0.02)  # the result comes from the thread to the loop
        await turn(client, "and?")
    assert ("result", "rain in Oslo") in model.heard[-1]


@each
async def test_a_plain_tool_returns_its_result(maker: Maker) -> None:
    """As any other tool does."""
    model, desk = StrictModel([call("look_up_slowly", city="Oslo")], [say("Yes.")]), Desk()
    desk.late.set()
    async with served(maker, model, desk) as client:
        frames = await turn(client)
    [result] = of(frames, "tool.result")
    assert (result["status"], result["output"]) == ("completed", "rain in Oslo")
    assert model.heard[-1][-1] == ("result", "rain in Oslo")


@each
async def test_a_plain_tool_that_waits_for_a_thread_does_not_begin_later(maker: Maker) -> None:
    """All threads of the session are busy, the turn is cut, and then a thread becomes free."""
    model = StrictModel(
        [call("look_up_slowly", city="Oslo"), call("look_up_slowly", city="Rome")], [say("Yes.")]
    )
    desk = Desk()
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, desk, http)
        async with serving(agent, max_threads_per_session=1) as server, server.connect() as client:
            turn_id = await ask(client, "go")
            for _ in range(2):
                await client.until("tool.running")
            await until(lambda: desk.begun, "the first thread")
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
            await client.until("turn.ended")
            desk.late.set()
            await until(lambda: desk.ended, "the first thread's end")
            await turn(client, "and?")
    assert len(desk.begun) == 1


@each
async def test_no_tool_begins_while_the_turn_is_held(maker: Maker) -> None:
    """A hold that comes between the call and its tool stops the tool; the interrupt makes that final."""
    model, desk = StrictModel([call("look_up", pause_at=12, city="Oslo")], [say("Yes.")]), Desk()
    async with served(maker, model, desk) as client:
        turn_id = await ask(client, "go")
        await client.until("tool.call.delta")
        await client.send({"type": "turn.hold", "turn_id": turn_id})
        await client.until("turn.held")
        model.resume()
        await asyncio.sleep(0.05)
        assert desk.begun == []
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        await turn(client, "and?")
    assert desk.begun == []
    assert ("result", "cancelled") in model.heard[-1]


@each
async def test_a_tool_does_not_overtake_its_call(maker: Maker) -> None:
    """The model is done while the turn is held: after the hold the arguments come first, then the begin."""
    city = "Oslo" * 500
    model, desk = StrictModel([call("look_up", pause_at=12, city=city)], [say("Yes.")]), Desk()
    async with served(maker, model, desk) as client:
        turn_id = await ask(client, "go")
        await client.until("tool.call.delta")
        await client.send({"type": "turn.hold", "turn_id": turn_id})
        await client.until("turn.held")
        model.resume()
        await asyncio.sleep(0.2)
        await client.send({"type": "turn.resume", "turn_id": turn_id})
        await client.until("tool.running")
        arguments = "".join(frame["arguments"] for frame in of(client.frames, "tool.call.delta"))
        assert arguments == json.dumps({"city": city})
        assert (await client.until("turn.ended"))["status"] == "completed"


@each
async def test_a_tool_that_ends_in_a_hold_is_told_as_it_ended(maker: Maker) -> None:
    """Its result is never sent, and yet the next request has it: nothing is booked twice."""
    model, desk = StrictModel([call("look_up", city="Oslo")], [say("Yes.")]), Desk()
    desk.blocked.add("Oslo")
    async with served(maker, model, desk) as client:
        turn_id = await ask(client, "go")
        await client.until("tool.running")
        await until(lambda: desk.begun, "the tool")
        await client.send({"type": "turn.hold", "turn_id": turn_id})
        await client.until("turn.held")
        desk.release()
        await until(lambda: desk.ended, "the tool's end")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        await turn(client, "and?")
    assert of(client.frames, "tool.result") == []
    assert ("result", "sunny in Oslo") in model.heard[-1]


@each
async def test_a_session_gets_its_own_history(maker: Maker) -> None:
    """One agent, made once, serves sessions side by side."""
    model = StrictModel([say("One."), PAUSE], [say("Two.")], [say("Three.")])
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, Desk(), http)
        async with serving(agent) as server, server.connect() as first, server.connect() as second:
            await ask(first, "first")
            await first.until("text.delta")
            await turn(second, "second")
            model.resume()
            await first.until("turn.ended")
            await turn(first, "again")
    assert model.heard[1] == [("user", "second")]
    assert model.heard[2] == [("user", "first"), ("assistant", "One."), ("user", "again")]


async def test_the_instructions_are_sent_with_every_turn() -> None:
    """Pydantic AI leaves its system prompt out of a run that has a history."""
    model = StrictModel([say("One.")], [say("Two.")])
    async with served(pydantic_ai_responses, model, Desk()) as client:
        await turn(client)
        await turn(client, "again")
    assert all("Help." in json.dumps(body) for body in model.bodies)
