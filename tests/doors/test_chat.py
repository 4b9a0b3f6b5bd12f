"""Chat completions, with the clients of `openai` as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bargein_server import BearerTokens, Settings, create_app
from bargein_server.endpoints.doors.table import UnknownDoor
from door_agent import play
from live_server import Serving, serving
from sse_client import http
from waiting import until

LOCATE: Any = {"type": "function", "function": {"name": "locate", "parameters": {"type": "object"}}}
CHAT = {"X-OpenWebUI-Chat-Id": "chat-1"}


@asynccontextmanager
async def client(key: str = "none", **options: Any) -> AsyncIterator[tuple[Serving, AsyncOpenAI]]:
    """Serve the agent, and return a client of `openai`."""
    async with (
        serving(play, doors=["chat"], **options) as server,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key, max_retries=0) as client,
    ):
        yield server, client


def said(*texts: str) -> list[Any]:
    """Return messages of the user and the assistant in turn."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


async def streamed(client: AsyncOpenAI, *texts: str, **options: Any) -> list[ChatCompletionChunk]:
    """Return the chunks of an answer."""
    answer = await client.chat.completions.create(model="play", messages=said(*texts), stream=True, **options)
    return [chunk async for chunk in answer]


async def whole(client: AsyncOpenAI, *texts: str, **options: Any) -> str:
    """Return the text of a whole answer."""
    answer: ChatCompletion = await client.chat.completions.create(
        model="play", messages=said(*texts), **options
    )
    return answer.choices[0].message.content or ""


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_the_agent_is_the_one_model() -> None:
    """Its name is that of the function."""
    async with client() as (_, openai_client):
        assert [model.id async for model in openai_client.models.list()] == ["play"]
        assert (await openai_client.models.retrieve("play")).owned_by == "bargein"
        with pytest.raises(openai.NotFoundError, match="there is one model: play"):
            await openai_client.models.retrieve("other")


async def test_a_stream_is_valid() -> None:
    """The role comes first, the end once, and the usage last when it is asked for."""
    async with client() as (_, openai_client):
        chunks = await streamed(openai_client, "hello", stream_options={"include_usage": True})
        assert text(chunks) == "You said hello."
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, "stop"]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 10
        assert len({chunk.id for chunk in chunks}) == 1
        assert {chunk.model for chunk in chunks} == {"play"}


async def test_a_whole_answer_is_valid() -> None:
    """It has the thoughts and the usage."""
    async with client() as (_, openai_client):
        answer = await openai_client.chat.completions.create(model="play", messages=said("hello"))
        assert answer.choices[0].message.content == "You said hello."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 7


async def test_thoughts_are_apart_and_tools_of_the_server_do_not_show() -> None:
    """A client would run them; other voices are left out."""
    async with client() as (_, openai_client):
        chunks = await streamed(openai_client, "look")
        thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks]
        assert "".join(thought or "" for thought in thoughts) == "I should look."
        assert text(chunks) == "Let me look. It is blue."
        assert not any(chunk.choices[0].delta.tool_calls for chunk in chunks)


async def test_closing_the_request_interrupts() -> None:
    """Open WebUI's button does that; the history has the part that was written."""
    async with client() as (server, openai_client):
        answer = await openai_client.chat.completions.create(
            model="play", messages=said("count"), stream=True, extra_headers=CHAT
        )
        shown = ""
        async for chunk in answer:
            shown += chunk.choices[0].delta.content or ""
            if "5" in shown:
                break
        await answer.close()
        [host] = list(server.sessions)
        async with asyncio.timeout(1):
            await until(lambda: not host.core.busy, "the end of the turn")
        remembered = await whole(openai_client, "count", shown, "recall", extra_headers=CHAT)
        [_, cut] = json.loads(remembered)
        assert cut["content"].startswith(shown.strip())
        assert cut["content"].endswith("[interrupted]")


async def test_closing_the_request_of_a_whole_answer_interrupts() -> None:
    """It is the only way to stop it."""
    async with client() as (server, openai_client):
        task = asyncio.create_task(whole(openai_client, "count", extra_headers=CHAT))
        await until(
            lambda: any(host.core.busy for host in getattr(server.app.state, "sessions", ())), "a turn"
        )
        task.cancel()
        await until(lambda: not any(host.core.busy for host in server.sessions), "its end")


async def test_a_conversation_goes_on_in_one_session() -> None:
    """The history has the tool's result, which the client never saw."""
    async with client() as (server, openai_client):
        answer = await whole(openai_client, "look", extra_headers=CHAT)
        history = json.loads(await whole(openai_client, "look", answer, "recall", extra_headers=CHAT))
        assert [message["role"] for message in history] == ["user", "assistant", "tool", "assistant"]
        assert history[2]["content"] == '{"colour":"blue"}'
        assert len(server.sessions) == 1


@pytest.mark.parametrize(
    "header", ["X-OpenWebUI-Chat-Id", "X-LibreChat-Conversation-Id", "X-Conversation-Id"]
)
async def test_headers_name_the_conversation(header: str) -> None:
    """Those of Open WebUI and LibreChat, and one for everybody."""
    async with client() as (server, openai_client):
        await whole(openai_client, "a", extra_headers={header: "one"})
        await whole(openai_client, "a", "You said a.", "b", extra_headers={header: "one"})
        assert [len(host.core.outside.turns()) for host in server.sessions] == [2]


async def test_without_an_id_a_session_lives_for_its_request() -> None:
    """It is seeded with the client's messages, and nothing stays."""
    async with client() as (server, openai_client):
        history = json.loads(await whole(openai_client, "a", "b", "recall"))
        assert history == said("a", "b")
        unfilled = {"X-LibreChat-Conversation-Id": "{{LIBRECHAT_BODY_CONVERSATIONID}}"}
        assert json.loads(await whole(openai_client, "recall", extra_headers=unfilled)) == []
        await until(lambda: len(server.sessions) == 0, "no session")


async def test_regenerate_and_edit_drop_turns_from_the_end() -> None:
    """A client that sends less than the session has means what it sends."""
    async with client() as (_, openai_client):
        await whole(openai_client, "a", extra_headers=CHAT)
        await whole(openai_client, "a", "You said a.", "b", extra_headers=CHAT)
        again = await whole(openai_client, "a", "You said a.", "recall", extra_headers=CHAT)
        assert json.loads(again) == said("a", "You said a.")
        edited = await whole(openai_client, "recall", extra_headers=CHAT)
        assert json.loads(edited) == []


async def test_another_conversation_under_the_id_replaces_it() -> None:
    """The client's messages are the truth then."""
    async with client() as (_, openai_client):
        await whole(openai_client, "a", extra_headers=CHAT)
        other = await whole(openai_client, "x", "y", "z", "w", "recall", extra_headers=CHAT)
        assert json.loads(other) == said("x", "y", "z", "w")


async def test_a_restarted_server_is_seeded(tmp_path: Any) -> None:
    """Without a store the client's messages come before the session."""
    async with client() as (_, openai_client):
        history = await whole(openai_client, "a", "b", "recall", extra_headers=CHAT)
        assert json.loads(history) == said("a", "b")


async def test_a_store_keeps_the_conversation(tmp_path: Any) -> None:
    """The next process has the tool's result too."""
    store = f"sqlite:///{tmp_path}/bargein.db"
    async with client(store=store) as (_, openai_client):
        answer = await whole(openai_client, "look", extra_headers=CHAT)
    async with client(store=store) as (_, openai_client):
        history = json.loads(await whole(openai_client, "look", answer, "recall", extra_headers=CHAT))
        assert history[2]["content"] == '{"colour":"blue"}'


async def test_titles_do_not_disturb_the_conversation() -> None:
    """Open WebUI asks for them under the id of the chat."""
    async with client() as (server, openai_client):
        await whole(openai_client, "a", extra_headers=CHAT)
        title = await whole(openai_client, "### Task:\nFind a title.", extra_headers=CHAT)
        assert title.startswith("You said ### Task:")
        await until(lambda: len(server.sessions) == 1, "one session")
        [host] = list(server.sessions)
        assert [turn.input.text for turn in host.core.outside.turns()] == ["a"]


async def test_a_newer_message_interrupts_the_answer() -> None:
    """The older stream gets its end, and the newer one all of its own."""
    async with client() as (_, openai_client):
        older = asyncio.create_task(streamed(openai_client, "count", extra_headers=CHAT))
        await asyncio.sleep(0.1)
        newer = await streamed(openai_client, "count", "1 2", "hello", extra_headers=CHAT)
        assert text(newer) == "You said hello."
        async with asyncio.timeout(1):
            assert (await older)[-1].choices[0].finish_reason == "stop"


async def test_the_client_runs_its_tool() -> None:
    """The call ends the answer, and the next request has the result."""
    async with client() as (_, openai_client):
        answer = await openai_client.chat.completions.create(
            model="play", messages=said("locate"), extra_headers=CHAT
        )
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        [call] = message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("locate", '{"precise":true}')
        messages = [
            *said("locate"),
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Oslo"},
        ]
        chunks = [
            chunk
            async for chunk in await openai_client.chat.completions.create(
                model="play", messages=messages, stream=True, extra_headers=CHAT
            )
        ]
        assert text(chunks) == "You are in Oslo."
        with pytest.raises(openai.ConflictError, match="no call waits for this result"):
            await openai_client.chat.completions.create(model="play", messages=messages, extra_headers=CHAT)


async def test_a_tool_that_needs_consent_is_refused() -> None:
    """Nobody can be asked, and the agent goes on at once."""
    async with client() as (_, openai_client):
        async with asyncio.timeout(5):
            assert await whole(openai_client, "buy", extra_headers=CHAT) == "May I? I leave it."


async def test_a_failure_is_an_error_of_openai() -> None:
    """Before the answer by status, in the middle by an event, both without a second run."""
    async with client() as (_, openai_client):
        with pytest.raises(openai.InternalServerError, match="the model could not be reached") as raised:
            await whole(openai_client, "fail")
        assert raised.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.InternalServerError) as raised:
            await whole(openai_client, "fail later")
        assert raised.value.status_code == 503
        with pytest.raises(openai.APIError, match="the model could not be reached"):
            await streamed(openai_client, "fail")


async def test_refusals_have_openais_form() -> None:
    """A client shows the message, and chooses its exception by the status."""
    async with client() as (server, openai_client):
        with pytest.raises(openai.BadRequestError, match="expected n to be 1"):
            await openai_client.chat.completions.create(model="play", messages=said("a"), n=2)
        with pytest.raises(openai.BadRequestError, match="expected a message of the user"):
            await openai_client.chat.completions.create(model="play", messages=said("a", "b"))
        with pytest.raises(openai.BadRequestError, match="at the end"):
            await openai_client.chat.completions.create(model="play", messages=[])
        async with http(server) as plain:
            response = await plain.post("/v1/chat/completions", {"messages": 3})
            assert response.status_code == 422
            assert response.json()["error"]["type"] == "invalid_request_error"
            response = await plain.post("/v1/chat/completions", b"{")
            assert response.status_code == 400
        with pytest.raises(openai.APIStatusError, match="1 to 512 characters"):
            await whole(openai_client, "a", extra_headers={"X-Conversation-Id": "x" * 513})
        with pytest.raises(openai.APIStatusError, match="at most 65536 characters"):
            await whole(openai_client, "a" * 65_537)


async def test_the_key_is_the_token() -> None:
    """Principals do not share an id of a conversation."""
    tokens = BearerTokens({"secret-a": "ann", "secret-b": "bob"})
    async with client("secret-a", authenticator=tokens) as (server, ann):
        await whole(ann, "a", extra_headers=CHAT)
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{server.port}/v1", api_key="secret-b", max_retries=0
        ) as bob:
            assert json.loads(await whole(bob, "recall", extra_headers=CHAT)) == []
        assert len(server.sessions) == 2
        for key in ("wrong", "x y"):
            async with http(server) as plain:
                response = await plain.post(
                    "/v1/chat/completions", {"messages": said("a")}, {"Authorization": f"Bearer {key}"}
                )
                assert response.status_code == 401
                assert response.json()["error"]["code"] == "invalid_api_key"
                response = await plain.request("GET", "/v1/models")
                assert response.status_code == 401


async def test_instructions_are_the_agents_to_use() -> None:
    """They are no part of the history, where a model would take them for its author's."""
    async with client() as (_, openai_client):
        messages: list[Any] = [{"role": "system", "content": "Be kind."}, *said("brief")]
        answer = await openai_client.chat.completions.create(
            model="play", messages=messages, user="ann", metadata={"plan": "free"}, tools=[LOCATE]
        )
        brief = json.loads(answer.choices[0].message.content or "")
        assert brief == {
            "instructions": "Be kind.", "model": "play", "plan": "free", "user": "ann", "tools": [LOCATE],
        }  # fmt: skip


async def test_parts_of_a_message_are_joined() -> None:
    """Into one text."""
    async with client() as (_, openai_client):
        parts: Any = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
        answer = await openai_client.chat.completions.create(
            model="play", messages=[{"role": "user", "content": parts}]
        )
        assert answer.choices[0].message.content == "You said hello."


async def test_a_door_is_closed_unless_it_is_opened() -> None:
    """Without the switch there is no route, and an unknown name is an error."""
    async with serving(play) as server, http(server) as plain:
        assert (await plain.request("GET", "/v1/models")).status_code == 404
    with pytest.raises(UnknownDoor, match="expected a door of chat"):
        create_app(play, Settings(), doors=["caht"])  # type: ignore[list-item]
