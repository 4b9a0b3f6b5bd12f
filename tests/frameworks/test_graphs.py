"""Graphs of LangGraph beyond the usual agent: what nodes, tools and middleware may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from bargein_server import Output, Turn
from bargein_server.frameworks import langchain_messages, langchain_reader, langgraph_agent, recorded_tool
from framework_agents import langchain_model
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import StrictModel, call, say
from waiting import until

Make = Callable[[Any], Any]


@asynccontextmanager
async def served(make: Make, model: StrictModel) -> AsyncIterator[RawClient]:
    """Serve the agent that `make` returns for a chat model."""
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = make(langchain_model(upstream.url, http))
        async with serving(agent) as server, server.connect() as client:
            yield client


async def turn(client: RawClient, text: str = "go") -> list[Frame]:
    start = len(client.frames)
    await ask(client, text, f"i{start}")
    await client.until("turn.ended")
    return client.frames[start:]


def of(frames: list[Frame], kind: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] == kind]


def graph_of(node: Any, *, checkpointer: Any = None) -> Any:
    """Return a graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile(checkpointer=checkpointer)


async def test_nodes_may_send_the_servers_outputs() -> None:
    """Through LangGraph's writer; other values become data, and a whole message is text."""

    async def node(state: MessagesState, turn: Any = None) -> dict[str, Any]:
        write = get_stream_writer()
        write({"rows": 3})
        return {"messages": [AIMessage("All done.")]}

    async with served(lambda model: langgraph_agent(graph_of(node)), StrictModel()) as client:
        frames = await turn(client)
    [data] = of(frames, "data")
    assert (data["name"], data["value"]) == ("custom", {"rows": 3})
    assert [frame["text"] for frame in of(frames, "text.delta")] == ["All done."]
    assert [frame["kind"] for frame in of(frames, "step.ended")] == ["node"]


async def test_a_question_without_a_call_is_a_call_of_its_own() -> None:
    """`interrupt()` in a node returns whether the user allowed it, or what `resume` makes of that."""
    seen: list[Any] = []

    async def node(state: MessagesState) -> dict[str, Any]:
        seen.append(interrupt({"send": "mail"}))
        return {"messages": [AIMessage("Sent.")]}

    def agent(model: Any) -> Any:
        graph = graph_of(node, checkpointer=InMemorySaver())
        return langgraph_agent(graph, resume=lambda value, allowed: [value, allowed])

    async with served(agent, StrictModel()) as client:
        await ask(client, "go")
        question = await client.until("tool.confirm")
        await client.send({"type": "tool.decision", "call_id": question["call_id"], "allow": True})
        assert (await client.until("turn.ended"))["status"] == "completed"
    assert question["arguments"] == {"send": "mail"}
    assert seen == [[{"send": "mail"}, True]]
    [result] = of(client.frames, "tool.result")
    assert (result["call_id"], result["output"]) == (question["call_id"], "allowed")


@pytest.mark.parametrize(
    ("value", "arguments"), [("Send it?", {"question": "Send it?"}), (["a", "b"], {"value": ["a", "b"]})]
)
async def test_any_value_can_be_a_question(value: Any, arguments: Any) -> None:
    """The value of `interrupt()` is what the user reads."""

    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Yes." if interrupt(value) else "No.")]}

    graph = graph_of(node, checkpointer=InMemorySaver())
    async with served(lambda model: langgraph_agent(graph), StrictModel()) as client:
        await ask(client, "go")
        question = await client.until("tool.confirm")
        assert question["arguments"] == arguments
        await client.send({"type": "tool.decision", "call_id": question["call_id"], "allow": False})
        assert (await client.until("text.delta"))["text"] == "No."


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_tool_whose_error_ends_the_run_has_failed(blocking: bool) -> None:
    """`ToolNode` raises it by default: the client sees the failed call before the failed turn."""

    async def works(x: int = 0) -> str:
        """Fail."""
        raise ValueError("secret")

    def blocks(x: int = 0) -> str:
        """Fail."""
        raise ValueError("secret")

    made = tool("broken")(blocks if blocking else works)
    model = StrictModel([call("broken", x=1)], [say("Well.")])
    async with served(lambda llm: langgraph_agent(create_agent(llm, [made])), model) as client:
        frames = await turn(client)
        assert (await turn(client, "why?"))[-1]["status"] == "completed"
    assert [frame["type"] for frame in frames][-2:] == ["tool.result", "turn.ended"]
    assert (frames[-2]["status"], frames[-2]["error"]) == ("failed", "the tool failed")
    assert frames[-1]["reason"] == "agent_error"
    assert ("result", "error: the tool failed") in model.heard[-1]


async def test_consent_without_a_checkpointer(caplog: pytest.LogCaptureFixture) -> None:
    """The user is not asked in vain; the log has the remedy."""

    async def node(state: MessagesState) -> dict[str, Any]:
        interrupt({"send": "mail"})
        return {}

    async with served(lambda model: langgraph_agent(graph_of(node)), StrictModel()) as client:
        frames = await turn(client)
    assert (frames[-1]["status"], of(frames, "tool.confirm")) == ("failed", [])
    assert "make it with checkpointer=InMemorySaver()" in caplog.text


async def test_the_answer_may_be_a_field_of_a_tools_arguments() -> None:
    """Its text is streamed and heard; the call does not show."""

    @tool(return_direct=True)
    async def final_answer(answer: str) -> str:
        """Answer."""
        return answer

    def agent(model: Any) -> Any:
        graph = create_agent(model, [final_answer])
        return langgraph_agent(graph, final_tool=("final_answer", "answer"))

    model = StrictModel([call("final_answer", answer="It is 3.")], [say("Yes.")])
    async with served(agent, model) as client:
        frames = await turn(client)
        assert len(of(frames, "text.delta")) > 1
        assert "".join(frame["text"] for frame in of(frames, "text.delta")) == "It is 3."
        assert of(frames, "tool.call") == of(frames, "tool.result") == []
        await turn(client, "sure?")
    assert model.heard[-1] == [("user", "go"), ("assistant", "It is 3."), ("user", "sure?")]


class Weather(BaseModel):
    """A result that is no JSON value."""

    degrees: int


@tool
async def measure(city: str) -> Weather:
    """Measure."""
    return Weather(degrees=3)


@tool
async def move(city: str) -> Any:
    """Move."""
    return Command(update={"messages": [ToolMessage("moved", tool_call_id="call_1_0")]})


@tool(response_format="content_and_artifact")
def draw(city: str) -> tuple[str, bytes]:
    """Draw."""
    return "a picture", b"\x89"


class Own(BaseTool):
    """A tool that is a class, without an asynchronous method."""

    name: str = "own"
    description: str = "Do it."

    def _run(self, city: str) -> str:
        return f"did it in {city}"


@pytest.mark.parametrize(
    ("made", "output"),
    [(measure, {"degrees": 3}), (move, "moved"), (draw, "a picture"), (Own(), "did it in Oslo")],
    ids=["model", "command", "artifact", "class"],
)
async def test_any_result_is_told(made: BaseTool, output: Any) -> None:
    """In the form that the model gets; the tool itself stays as it was."""
    model = StrictModel([call(made.name, city="Oslo")], [say("Yes.")])
    kind = type(made)
    async with served(lambda chat: langgraph_agent(create_agent(chat, [made])), model) as client:
        frames = await turn(client)
    [result] = of(frames, "tool.result")
    assert (result["status"], result["output"]) == ("completed", output)
    assert frames[-1]["status"] == "completed"
    assert type(made) is kind


async def test_a_tool_that_is_tried_again_has_one_result() -> None:
    """Its last one; a failure before it is not told as the result."""
    attempts: list[int] = []

    @tool
    async def shaky(city: str) -> str:
        """Fail once."""
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise ConnectionError("gone")
        return "fine"

    retry: Any = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    model = StrictModel([call("shaky", city="Oslo")], [say("Yes.")])
    make = lambda chat: langgraph_agent(create_agent(chat, [shaky], middleware=[retry]))  # noqa: E731
    async with served(make, model) as client:
        frames = await turn(client)
    assert len(attempts) == 2
    [result] = of(frames, "tool.result")
    assert (result["status"], result["output"]) == ("completed", "fine")


async def test_a_tool_that_fails_is_told_as_failed() -> None:
    """In the turn, with the message for the model, and in the history."""

    @tool
    async def broken(city: str) -> str:
        """Fail."""
        raise ConnectionError("the line is dead")

    retry: Any = ToolRetryMiddleware(max_retries=0, on_failure="continue")
    model = StrictModel([call("broken", city="Oslo")], [say("Sorry.")], [say("Yes.")])
    make = lambda chat: langgraph_agent(create_agent(chat, [broken], middleware=[retry]))  # noqa: E731
    async with served(make, model) as client:
        frames = await turn(client)
        await turn(client, "and?")
    [result] = of(frames, "tool.result")
    assert result["status"] == "failed"
    assert "broken" in result["error"]
    [told] = [said[1] for said in model.heard[-1] if said[0] == "result"]
    assert told.startswith("error: ")


async def test_a_graph_within_a_graph_is_an_agent_too() -> None:
    """Its text is streamed, and its tools are recorded."""

    @tool
    def look(city: str) -> str:
        """Look."""
        return f"sun in {city}"

    def make(chat: Any) -> Any:
        graph = StateGraph(MessagesState)
        graph.add_node("weather", create_agent(chat, [look]))
        graph.add_edge(START, "weather")
        return langgraph_agent(graph.compile())

    model = StrictModel([call("look", city="Oslo")], [say("It is sunny.")])
    async with served(make, model) as client:
        frames = await turn(client)
    assert "".join(frame["text"] for frame in of(frames, "text.delta")) == "It is sunny."
    assert [frame["output"] for frame in of(frames, "tool.result")] == ["sun in Oslo"]
    assert len(of(frames, "tool.running")) == 1


async def test_other_state_of_a_thread_stays() -> None:
    """A checkpointer keeps it; its messages are those of the server's history."""
    seen: list[tuple[int, int]] = []

    class State(MessagesState):
        visits: int

    async def node(state: State) -> dict[str, Any]:
        seen.append((state.get("visits", 0), len(state["messages"])))
        return {"messages": [AIMessage("Hi.")], "visits": state.get("visits", 0) + 1}

    def make(chat: Any) -> Any:
        graph = StateGraph(State)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        return langgraph_agent(graph.compile(checkpointer=InMemorySaver()))

    async with served(make, StrictModel()) as client:
        await turn(client)
        await turn(client)
    assert seen == [(0, 1), (1, 3)]


class SlowSaver(InMemorySaver):
    """A checkpointer whose writes take a while, as those of a database do."""

    async def aput(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        return await super().aput(*args, **options)


async def test_a_turn_waits_for_the_checkpoints_of_the_last() -> None:
    """Else the old turn's checkpoint is the newest of the thread, and its state is found by nobody."""
    begun = asyncio.Event()
    seen: list[Any] = []

    class State(MessagesState):
        done: list[str]

    async def first(state: State) -> dict[str, Any]:
        seen.append(state.get("done"))
        return {"done": [*(state.get("done") or []), state["messages"][-1].text]}

    async def second(state: State) -> dict[str, Any]:
        begun.set()
        if state["messages"][-1].text == "one":
            await asyncio.sleep(10)
        return {"messages": [AIMessage("Hi.")]}

    def make(chat: Any) -> Any:
        graph = StateGraph(State)
        graph.add_node("first", first)
        graph.add_node("second", second)
        graph.add_edge(START, "first")
        graph.add_edge("first", "second")
        return langgraph_agent(graph.compile(checkpointer=SlowSaver()))

    async with served(make, StrictModel()) as client:
        turn_id = await ask(client, "one")
        await begun.wait()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        await turn(client, "two")
    assert seen == [None, ["one"]]


async def test_no_recorded_tool_begins_in_a_task_that_outlives_the_turn() -> None:
    """An author's own task gets `TurnClosed` where it calls one."""
    begun: list[str] = []
    tasks: list[asyncio.Task[Any]] = []
    open_now = asyncio.Event()

    @tool
    async def act(city: str) -> str:
        """Act."""
        begun.append(city)
        return city

    def invocation(call_id: str, city: str) -> Any:
        return {"type": "tool_call", "id": call_id, "name": "act", "args": {"city": city}}

    async def executor() -> None:
        await recorded_tool(act).ainvoke(
            {"type": "tool_call", "id": "c", "name": "act", "args": {"city": "A"}}
        )
        await open_now.wait()
        await recorded_tool(act).ainvoke(
            {"type": "tool_call", "id": "d", "name": "act", "args": {"city": "B"}}
        )

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        reader = langchain_reader(turn)
        calls: Any = [{"id": key, "name": "act", "args": {}, "type": "tool_call"} for key in "cd"]
        for output in reader.read(AIMessage("", tool_calls=calls)):
            yield output
        assert langchain_messages(turn.history.messages())[-1].text == turn.text
        tasks.append(asyncio.create_task(executor()))
        await asyncio.Event().wait()

    async with served(lambda chat: agent, StrictModel()) as client:
        turn_id = await ask(client, "go")
        await until(lambda: begun, "the first tool")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        open_now.set()
        await until(tasks[0].done, "the task's end")
    assert tasks[0].cancelled()
    assert begun == ["A"]


async def test_a_node_in_a_thread_begins_no_tool_after_the_turn() -> None:
    """LangChain's callbacks refuse it, although the thread goes on and the tool is not recorded."""
    import threading

    begun: list[str] = []
    entered, released, left = threading.Event(), threading.Event(), threading.Event()

    @tool
    def act(city: str) -> str:
        """Act."""
        begun.append(city)
        return city

    def node(state: MessagesState) -> dict[str, Any]:
        entered.set()
        released.wait(10)
        try:
            act.invoke({"city": "Oslo"})
        finally:
            left.set()
        return {}

    async with served(lambda chat: langgraph_agent(graph_of(node)), StrictModel()) as client:
        turn_id = await ask(client, "go")
        await until(entered.is_set, "the node")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        released.set()
        await until(left.is_set, "the node's end")
    assert begun == []
