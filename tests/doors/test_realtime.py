"""OpenAI's Realtime protocol, with the client of `openai` as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bargein_server import AccessRequest, BearerTokens, Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.tools import tool
from door_agent import play
from live_server import serving
from model_server import Upstream
from realtime_client import Talk, realtime, talking, text_of
from scripted_model import Model, call, say
from sse_client import http
from waiting import until

SLOW = {"type": "audio/pcm", "rate": 16000}
LOCATE = {"type": "function", "name": "locate", "description": "Tell where.", "parameters": {}}


async def history(talk: Talk) -> Any:
    """Return the history that the agent gets."""
    return json.loads(text_of(await talk.ask("recall")))


async def test_a_text_turn() -> None:
    """Its events come in the order of the protocol, and its usage with the end."""
    async with realtime(play) as talk:
        start = len(talk.events)
        done = await talk.ask("hello")
        assert text_of(done) == "You said hello."
        assert done["status"] == "completed"
        assert done["usage"]["total_tokens"] == 10
        kinds = [event["type"] for event in talk.events[start:]]
        assert kinds == [
            "conversation.item.added", "conversation.item.done", "response.created",
            "response.output_item.added", "conversation.item.added", "response.content_part.added",
            "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
            "response.content_part.done", "response.output_item.done", "conversation.item.done",
            "response.done",
        ]  # fmt: skip


async def test_the_session_is_merged_and_echoed() -> None:
    """A partial update keeps the rest, null clears, and what the server cannot do is not claimed."""
    async with realtime(play) as talk:
        first: Any = {
            "type": "realtime",
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "turn_detection": {"type": "server_vad"},
                    "format": {"type": "audio/pcm", "rate": 16000},
                }
            },
        }
        await talk.connection.session.update(session=first)
        session = (await talk.until("session.updated"))["session"]
        assert session["instructions"] == "Be kind."
        assert session["audio"]["input"]["turn_detection"] is None
        assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
        assert session["audio"]["output"]["voice"] == "alloy"
        assert session["output_modalities"] == ["text"]
        second: Any = {"type": "realtime", "tracing": None, "tools": [LOCATE]}
        await talk.connection.session.update(session=second)
        session = (await talk.until("session.updated"))["session"]
        assert (session["instructions"], session["tools"]) == ("Be kind.", [LOCATE])
        wrong: Any = {"type": "realtime", "tools": 7}
        await talk.connection.session.update(session=wrong)
        assert (await talk.error())["param"] == "session.tools"


async def test_instructions_and_tools_reach_the_agent() -> None:
    """As metadata of the session; those of one response as metadata of its input."""
    seen: list[Any] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen.append((dict(turn.session.metadata), turn.input.metadata))
        yield "Yes."

    async with realtime(agent) as talk:
        session: Any = {"type": "realtime", "instructions": "Be kind.", "tools": [LOCATE]}
        await talk.connection.session.update(session=session)
        await talk.say("Answer in verse.", "system")
        await talk.ask("hello")
        await talk.respond(instructions="Greet.")
        metadata = {"instructions": "Be kind.\n\nAnswer in verse.", "tools": [LOCATE]}
        assert seen == [(metadata, None), (metadata, {"instructions": "Greet."})]


async def test_a_cancel() -> None:
    """The response ends at once, and the next one knows what was written."""
    async with realtime(play) as talk:
        await talk.say("count")
        await talk.connection.response.create()
        for _ in range(3):
            await talk.until("response.output_text.delta")
        await talk.connection.response.cancel()
        done = (await talk.until("response.done"))["response"]
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        messages = await history(talk)
        assert messages[0] == {"role": "user", "content": "count"}
        assert (
            messages[1]["content"] == f"{text_of(done)}[interrupted]"
            or text_of(done) in messages[1]["content"]
        )
        await talk.connection.response.cancel(event_id="e-1")
        error = await talk.error()
        assert error["code"] == "response_cancel_not_active"
        assert error["message"].startswith("Cancellation failed")
        assert error["event_id"] == "e-1"


async def test_a_second_response_is_refused() -> None:
    """While one is active; the first goes on."""
    async with realtime(play) as talk:
        await talk.say("count")
        await talk.connection.response.create()
        await talk.until("response.output_text.delta")
        await talk.connection.response.create()
        assert (await talk.error())["code"] == "conversation_already_has_active_response"
        await talk.until("response.output_text.delta")
        await talk.connection.response.cancel()
        await talk.until("response.done")


async def test_a_function_of_the_client() -> None:
    """One turn is two responses; the second begins when the client asks for it."""
    async with realtime(play) as talk:
        done = await talk.ask("locate me")
        text, call = done["output"]
        assert (text["type"], call["type"], call["name"]) == ("message", "function_call", "locate")
        assert json.loads(call["arguments"]) == {"precise": True}
        await talk.answer(call, "Oslo")
        assert text_of(await talk.respond()) == "You are in Oslo."
        messages = await history(talk)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]


async def test_functions_in_parallel() -> None:
    """All calls of a step are in one response, and tools of the server are not seen."""

    @tool(runs_in="client")
    async def locate(name: str) -> str:
        """Tell where somebody is."""
        raise AssertionError("never called")

    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = Model()
    model.steps += [
        [call("locate", name="Ann"), call("add", a=1, b=2), call("locate", name="Bob")],
        [say("Ann is in Oslo, Bob in Rome.")],
    ]
    async with Upstream(model) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[locate, add])
        async with realtime(agent) as talk:
            done = await talk.ask("where?")
            assert [json.loads(item["arguments"])["name"] for item in done["output"]] == ["Ann", "Bob"]
            for item, place in zip(done["output"], ("Oslo", "Rome"), strict=True):
                await talk.answer(item, place)
            assert text_of(await talk.respond()) == "Ann is in Oslo, Bob in Rome."
            assert model.results() == ["Oslo", "3", "Rome"]


async def test_a_question_while_a_function_waits() -> None:
    """A new message supersedes the turn that waits for an output."""
    async with realtime(play) as talk:
        await talk.ask("locate me")
        assert text_of(await talk.ask("never mind")) == "You said never mind."


@pytest.mark.parametrize("approve", [True, False])
async def test_a_consent(approve: bool) -> None:
    """It is an approval request; the answer continues in a response of its own."""
    async with realtime(play) as talk:
        done = await talk.ask("buy tea")
        request = done["output"][-1]
        assert (request["type"], request["name"]) == ("mcp_approval_request", "buy")
        answer: Any = {
            "type": "mcp_approval_response",
            "approval_request_id": request["id"],
            "approve": approve,
        }
        await talk.connection.conversation.item.create(item=answer)
        done = (await talk.until("response.done"))["response"]
        assert text_of(done) == ("Done." if approve else "I leave it.")


async def test_tools_of_the_server_are_not_seen() -> None:
    """Only the answer, and only that of the main lane."""
    async with realtime(play) as talk:
        done = await talk.ask("look up")
        assert [item["type"] for item in done["output"]] == ["message"]
        assert text_of(done) == "Let me look. It is blue."


async def test_a_failure() -> None:
    """It is the response's, and the session lives on."""
    async with realtime(play) as talk:
        done = await talk.ask("fail now")
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["code"] == "upstream"
        assert text_of(await talk.ask("hello")) == "You said hello."


async def test_a_conversation_that_is_brought_along() -> None:
    """Items before the first response are the history; the last user messages are the question."""
    async with realtime(play) as talk:
        await talk.say("My name is Ann.")
        await talk.say("Hello Ann.", "assistant")
        await talk.say("recall")
        messages = json.loads(text_of(await talk.respond()))
        assert messages == [
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": "Hello Ann."},
        ]


async def test_items() -> None:
    """They are retrieved, placed, deleted and truncated; a turn leaves with its last message."""
    async with realtime(play) as talk:
        first = await talk.say("hello")
        done = await talk.respond()
        answer = done["output"][0]
        await talk.connection.conversation.item.retrieve(item_id=answer["id"])
        assert (await talk.until("conversation.item.retrieved"))["item"] == answer
        await talk.connection.conversation.item.truncate(
            item_id=answer["id"], content_index=0, audio_end_ms=100
        )
        assert (await talk.until("conversation.item.truncated"))["audio_end_ms"] == 100
        for item_id in (first["id"], answer["id"]):
            await talk.connection.conversation.item.delete(item_id=item_id)
            await talk.until("conversation.item.deleted")
        await talk.connection.conversation.item.retrieve(item_id=answer["id"])
        assert (await talk.error())["code"] == "item_retrieve_invalid_item_id"
        assert await history(talk) == []


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"type": "message", "role": "robot", "content": []}, "invalid_value"),
        ({"type": "message", "role": "user", "content": "text"}, "invalid_value"),
        ({"type": "picture"}, "invalid_value"),
        ({"type": "function_call_output", "call_id": 7, "output": "x"}, "invalid_value"),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
            "invalid_value",
        ),
        (7, "invalid_value"),
    ],
)
async def test_a_bad_item(item: Any, code: str) -> None:
    """It is refused, and the session lives on."""
    async with realtime(play) as talk:
        await talk.connection.send({"type": "conversation.item.create", "item": item})
        assert (await talk.error())["code"] == code
        assert text_of(await talk.ask("hello")) == "You said hello."


def deep(levels: int) -> str:
    """Return a configuration whose tool is nested this deeply."""
    nested = '{"a":' * levels + "1" + "}" * levels
    tools = '[{"type":"function","name":"f","parameters":' + nested + "}]"
    return '{"type":"session.update","session":{"type":"realtime","tools":' + tools + "}}"


MESSAGE = '{"type": "message", "role": "user", "content": []}'
PLACED = '{"type": "conversation.item.create", "previous_item_id": ["a"], "item": ' + MESSAGE + "}"


@pytest.mark.parametrize(
    "frame",
    [
        "{", "[]", "null", '{"type": 7}', '{"type": "no.such"}', "[" * 5000, deep(100), deep(980),
        deep(20_000), PLACED,
    ],
    ids=lambda frame: frame[:20] + str(len(frame)),
)  # fmt: skip
async def test_a_bad_frame(frame: str) -> None:
    """It is an error event, and the session lives on."""
    async with realtime(play) as talk:
        await talk.connection.send_raw(frame)
        await talk.error()
        assert text_of(await talk.ask("hello")) == "You said hello."


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"tools": [{"type": "function"}]}, "session.tools[0].name"),
        ({"tools": [{"type": "function", "name": 5}]}, "session.tools[0].name"),
        ({"tools": [{"name": "f", "parameters": 5}]}, "session.tools[0].parameters"),
        ({"tools": [{"name": "f"}, {"name": "g", "description": 5}]}, "session.tools[1].description"),
        ({"tools": [{"type": "x", "name": "f"}]}, "session.tools[0].type"),
        ({"tools": [{"type": ["x"], "name": "f"}]}, "session.tools[0].type"),
        ({"tools": [{"type": "mcp"}]}, "session.tools[0].server_label"),
        ({"tool_choice": "x"}, "session.tool_choice"),
        ({"tool_choice": {"type": "function"}}, "session.tool_choice"),
        ({"tool_choice": {"type": ["function"], "name": "f"}}, "session.tool_choice"),
    ],
)
async def test_tools_that_no_model_could_call(patch: Any, param: str) -> None:
    """They are refused with the field, in a session and in a response."""
    async with realtime(play) as talk:
        update: Any = {"type": "session.update", "session": {"type": "realtime", **patch}}
        await talk.connection.send(update)
        assert (await talk.error())["param"] == param
        await talk.connection.send({"type": "response.create", "response": patch})
        assert (await talk.error())["param"] == param.replace("session", "response")
        assert text_of(await talk.ask("hello")) == "You said hello."


async def test_an_id_is_used_once() -> None:
    """A second item of an id is refused."""
    async with realtime(play) as talk:
        item: Any = {"id": "mine", "type": "message", "role": "user", "content": []}
        await talk.connection.conversation.item.create(item=item)
        await talk.connection.conversation.item.create(item=item)
        assert (await talk.error())["code"] == "item_create_duplicate_item_id"
        other: Any = {**item, "id": "x"}
        await talk.connection.conversation.item.create(item=other, previous_item_id="no such")
        assert (await talk.error())["code"] == "item_retrieve_invalid_item_id"
        await talk.connection.conversation.item.create(item=other, previous_item_id="root")
        added = await talk.until("conversation.item.added")
        assert added["previous_item_id"] is None


async def test_a_response_outside_the_conversation() -> None:
    """It runs beside another one, brings its own input, and leaves no trace."""
    async with realtime(play) as talk:
        await talk.say("count")
        await talk.connection.response.create()
        await talk.until("response.output_text.delta")
        part = {"type": "input_text", "text": "hello"}
        aside: Any = {
            "conversation": "none",
            "metadata": {"purpose": "title"},
            "input": [{"type": "message", "role": "user", "content": [part]}],
        }
        await talk.connection.response.create(response=aside)
        done = (await talk.until("response.done"))["response"]
        assert (done["metadata"], done["conversation_id"]) == ({"purpose": "title"}, None)
        assert text_of(done) == "You said hello."
        await talk.connection.response.cancel()
        await talk.until("response.done")
        assert (await history(talk))[0]["content"] == "count"
        assert len(await history(talk)) == 4


async def test_an_aside_is_cancelled_by_its_id() -> None:
    """And the session that was made for it is gone."""
    async with realtime(play) as talk:
        item = await talk.say("count")
        reference: Any = {"conversation": "none", "input": [{"type": "item_reference", "id": item["id"]}]}
        await talk.connection.response.create(response=reference)
        created = await talk.until("response.created")
        await talk.until("response.output_text.delta")
        await talk.connection.response.cancel(response_id=created["response"]["id"])
        assert (await talk.until("response.done"))["response"]["status"] == "cancelled"
        await until(lambda: len(talk.server.sessions) == 1, "the end of the session")


async def test_a_lost_line_and_another_door() -> None:
    """The conversation of an id goes on, and a client of bargein sees it."""
    async with serving(play, doors=["realtime", "chat"]) as server:
        async with talking(server, conversation="mine") as talk:
            await talk.ask("hello")
        async with talking(server, conversation="mine") as talk:
            messages = await history(talk)
            assert [message["content"] for message in messages] == ["hello", "You said hello."]
        base = f"http://127.0.0.1:{server.port}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:
            texts: Any = ["hello", "You said hello.", "recall", json.dumps(messages), "recall"]
            said: Any = [
                {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
            ]
            headers = {"X-Conversation-Id": "mine"}
            whole = await client.chat.completions.create(model="m", messages=said, extra_headers=headers)
            assert len(json.loads(whole.choices[0].message.content or "")) == 4


async def test_a_lost_line_leaves_no_turn() -> None:
    """A client that is gone is one that is away, as for every other connection."""
    async with serving(play, doors=["realtime"], away_s=0.05) as server:
        async with talking(server) as talk:
            await talk.say("count")
            await talk.connection.response.create()
            await talk.until("response.output_text.delta")
        await until(lambda: not any(host.core.busy for host in server.sessions), "the end of the turn")


async def test_the_newest_connection_of_a_conversation_counts() -> None:
    """The older one is closed, in the middle of a response too, and the next turn has what was heard."""
    async with serving(play, doors=["realtime"]) as server:
        async with talking(server, conversation="mine") as older:
            await older.say("count")
            await older.connection.response.create()
            await older.until("response.output_text.delta")
            async with talking(server, conversation="mine") as newer:
                with pytest.raises(ConnectionClosed) as closed:
                    await older.until("response.done")
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4409
                assert (await history(newer))[1]["content"].startswith("1 ")


TOKENS = BearerTokens({"secret": "ann"})


async def test_keys() -> None:
    """A header or a browser's subprotocol, a token or a key for a browser, which counts once."""
    async with serving(play, doors=["realtime"], authenticator=TOKENS) as server:
        async with talking(server, "secret") as talk:
            assert text_of(await talk.ask("hello")) == "You said hello."
        with pytest.raises(InvalidStatus) as refused:
            async with talking(server, "wrong"):
                pass
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"
        async with openai.AsyncOpenAI(
            api_key="secret", base_url=f"http://127.0.0.1:{server.port}/v1"
        ) as client:
            secret = await client.realtime.client_secrets.create(
                session={"type": "realtime", "instructions": "Be kind."}
            )
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        protocols: Any = ["realtime", f"openai-insecure-api-key.{secret.value}", "openai-agents-sdk.1"]
        async with connect(url, subprotocols=protocols) as browser:
            assert browser.subprotocol == "realtime"
            created = json.loads(await browser.recv())
            assert created["session"]["instructions"] == "Be kind."
        with pytest.raises(InvalidStatus):
            async with connect(url, subprotocols=protocols):
                pass
        with pytest.raises(openai.AuthenticationError):
            async with openai.AsyncOpenAI(
                api_key="x", base_url=f"http://127.0.0.1:{server.port}/v1"
            ) as client:
                await client.realtime.client_secrets.create()


async def test_binary_frames_are_refused() -> None:
    """Its connection is closed with a clear code."""
    async with serving(play, doors=["realtime"]) as server:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as client:
            await client.recv()
            await client.send(b"{}")
            with pytest.raises(Exception, match="4"):
                await client.recv()


async def test_an_async_authenticator() -> None:
    """It is asked with the key; a wrong one is refused, and no connection stays counted."""

    async def check(request: AccessRequest) -> str | None:
        return "ann" if request.credential == "secret" else None

    async with serving(play, doors=["realtime"], authenticator=check) as server:
        async with talking(server, "secret") as talk:
            assert text_of(await talk.ask("hello")) == "You said hello."
        with pytest.raises(InvalidStatus):
            async with talking(server, "wrong"):
                pass


async def test_the_body_of_a_key_is_bounded() -> None:
    """A stranger cannot fill the memory, nor the stack."""
    async with serving(play, doors=["realtime"]) as server, http(server) as client:
        for levels in (100, 900, 980, 2000):
            nested = '{"a":' * levels + "1" + "}" * levels
            response = await client.post("/v1/realtime/client_secrets", b'{"session":%s}' % nested.encode())
            assert response.status_code == 400
        body = {"session": {"type": "realtime", "instructions": "x" * 20_000}}
        assert (await client.post("/v1/realtime/client_secrets", body)).status_code == 413
