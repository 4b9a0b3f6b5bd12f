"""Tools and instructions that a client brings."""

from __future__ import annotations

import pytest

from bargein_protocol import InputId, InputText, ToolOutput, ToolRunning
from scripted_model import call, say
from tool_conversation import Serve, add
from waiting import until

DESCRIBED = {
    "name": "locate",
    "description": "Tell where the user is.",
    "parameters": {"type": "object", "properties": {"precise": {"type": "boolean"}}},
}


@pytest.mark.parametrize("nested", [True, False])
async def test_tools_and_instructions_of_the_client(converse: Serve, nested: bool) -> None:
    """They come with an input; the client runs the tool, and the agent's own tools keep their names."""
    given = [{"type": "function", "function": DESCRIBED} if nested else {"type": "function", **DESCRIBED}]
    talk = converse(
        [call("locate", precise=True)], [say("There.")], tools=[add], instructions="Be kind.",
        client_tools=True, client_instructions=True,
    )  # fmt: skip
    own = {**DESCRIBED, "name": "add"}
    metadata = {"tools": [*given, own, {"name": "no name"}, 7], "instructions": "Be brief."}
    talk.line.send(InputText(id=InputId("i_1"), text="go", metadata=metadata))
    await until(lambda: talk.of(ToolRunning), "the call")
    [running] = talk.of(ToolRunning)
    assert (running.runs_in, running.arguments) == ("client", {"precise": True})
    talk.line.send(ToolOutput(call_id=running.call_id, output="Oslo"))
    await until(lambda: talk.line.ends(), "the end")
    request = talk.model.requests[0]
    assert [tool["function"]["name"] for tool in request["tools"]] == ["locate", "add"]
    assert request["tools"][0]["function"] == DESCRIBED
    assert request["tools"][1]["function"]["description"] == "Add two numbers."
    assert request["messages"][0] == {"role": "system", "content": "Be kind.\n\nBe brief."}
    assert talk.model.results() == ["Oslo"]


async def test_a_client_brings_nothing_unasked(converse: Serve) -> None:
    """Without the agent's leave, metadata with these names has no effect."""
    talk = converse([say("Yes.")], tools=[], instructions="Be kind.")
    metadata = {"tools": [DESCRIBED], "instructions": "Be brief."}
    talk.line.send(InputText(id=InputId("i_1"), text="go", metadata=metadata))
    await until(lambda: talk.line.ends(), "the end")
    [request] = talk.model.requests
    assert "tools" not in request
    assert request["messages"][0] == {"role": "system", "content": "Be kind."}
