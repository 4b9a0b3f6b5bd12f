"""One conversation through several doors, and bargein's own clients beside them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bargein_client import connect, open_conversation
from bargein_server import BearerTokens, Output, Turn
from bargein_server.endpoints.call import CURSOR_HEADER, SESSION_HEADER, TOKEN_HEADER
from door_agent import play
from door_clients import DOORS, ID, client_of
from live_server import serving
from realtime_client import talking
from sse_client import Http, http
from terminal_session import on_pipes, output
from waiting import until

WEB = Path(__file__).parents[2] / "clients" / "web"

ALL = ["chat", "ai-sdk", "ag-ui"]


def said(*texts: str) -> list[dict[str, Any]]:
    """Return messages of the user and the assistant in turn."""
    return [
        {"id": f"m{n}", "role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
    ]


async def by_chat(client: Http, *texts: str) -> Any:
    """Ask by chat completions."""
    return await client.post("/v1/chat/completions", {"messages": said(*texts)}, {"X-Conversation-Id": ID})


async def by_ai_sdk(client: Http, *texts: str) -> Any:
    """Ask by the AI SDK."""
    messages = [{**each, "parts": [{"type": "text", "text": each["content"]}]} for each in said(*texts)]
    return await client.post("/api/chat", {"id": ID, "messages": messages})


async def by_ag_ui(client: Http, *texts: str) -> Any:
    """Ask by AG-UI."""
    return await client.post("/v1/ag-ui", {"threadId": ID, "runId": "r", "messages": said(*texts)})


async def test_a_conversation_goes_on_through_other_doors() -> None:
    """It begins at one, goes on at two others, is followed by an event stream, and resumed by a WebSocket."""
    async with serving(play, doors=ALL) as server, http(server) as client:
        first = await by_chat(client, "look")
        session, token = first.headers[SESSION_HEADER], first.headers[TOKEN_HEADER]
        answer = first.json()["choices"][0]["message"]["content"]
        second = await by_ai_sdk(client, "look", answer, "hello")
        assert second.headers[SESSION_HEADER] == session
        assert TOKEN_HEADER not in second.headers
        async with client.stream(f"/v1/sessions/{session}/events", headers={TOKEN_HEADER: token}) as follower:
            await follower.until("replay.done")
            third = await by_ag_ui(client, "look", answer, "hello", "You said hello.", "recall")
            ended = await follower.until("turn.ended", status="completed")
        history = json.loads(ended["heard"]["text"])
        assert [message["role"] for message in history] == [
            "user", "assistant", "tool", "assistant", "user", "assistant",
        ]  # fmt: skip
        assert third.headers[SESSION_HEADER] == session
        epoch, _, seq = first.headers[CURSOR_HEADER].rpartition(".")
        resume = {"session_id": session, "token": token, "cursor": {"epoch": epoch, "seq": int(seq)}}
        async with server.connect() as own:
            await own.send({"type": "session.open", "resume": resume})
            opened = await own.until("session.opened")
            assert opened["resumed"] is True
            await own.until("replay.done")
            assert [f["type"] for f in own.frames].count("turn.ended") == 3
            await own.send({"type": "input.text", "id": "i", "text": "and by a socket"})
            await own.until("turn.ended")
        assert len(server.sessions) == 1


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", DOORS)
async def test_every_pair_of_doors(first: str, second: str) -> None:
    """A conversation goes on through another door, is followed by an event stream, and goes on natively."""
    async with serving(play, doors=list(DOORS)) as server, http(server) as plain:
        begins, goes_on = client_of(first, server, plain), client_of(second, server, plain)
        await begins.ask("look")
        await begins.lose()
        given = {name.lower(): value for name, value in begins.headers.items()}
        session, token = given[SESSION_HEADER.lower()], given[TOKEN_HEADER.lower()]
        goes_on.messages = begins.messages
        events = f"/v1/sessions/{session}/events"
        async with plain.stream(events, headers={TOKEN_HEADER: token}) as follower:
            await follower.until("replay.done")
            history = await goes_on.history()
            ended = await follower.until("turn.ended", status="completed")
            assert json.loads(ended["heard"]["text"]) == history
        assert [message["role"] for message in history] == ["user", "assistant", "tool", "assistant"]
        await goes_on.lose()
        epoch, _, seq = given[CURSOR_HEADER.lower()].rpartition(".")
        resume = {"session_id": session, "token": token, "cursor": {"epoch": epoch, "seq": int(seq)}}
        async with server.connect() as own:
            await own.send({"type": "session.open", "resume": resume})
            await own.until("replay.done")
            assert [frame["type"] for frame in own.frames].count("turn.ended") == 2
            await own.send({"type": "input.text", "id": "i", "text": "recall"})
            last = json.loads((await own.until("turn.ended"))["heard"]["text"])
        assert [each["content"] for each in last if each["role"] == "user"] == ["look", "recall"]
        assert len(server.sessions) == 1


@pytest.mark.parametrize("door", DOORS)
async def test_our_own_clients_go_on_with_a_doors_conversation(door: str) -> None:
    """The Python and the JavaScript client and the terminal, one after the other, and then the door again."""
    async with serving(play, doors=list(DOORS)) as server, http(server) as plain:
        client = client_of(door, server, plain)
        await client.ask("look")
        await client.lose()
        given = {name.lower(): value for name, value in client.headers.items()}
        session_id, token = given[SESSION_HEADER.lower()], given[TOKEN_HEADER.lower()]
        way = await open_conversation(server.url, session_id, session_token=token)
        assert [each.text for each in way.inputs] == ["look"]
        async with connect(server.url, resume=way.resume) as session:
            (before,) = session.history
            assert (before.input_id, before.status) == (way.inputs[0].input_id, "completed")
            await session.send("python").ended()
            state = session.resume_state()
        assert state is not None
        told = await in_javascript(server.url, session_id, state.token)
        assert told["inputs"] == ["look", "python"]
        assert told["texts"] == [before.lanes[""].text, "You said python.", "You said javascript."]
        async with on_pipes(
            "send", server.url, "terminal", "--session", session_id, BARGEIN_SESSION_TOKEN=told["token"]
        ) as process:
            assert (await output(process))[0] == "You said terminal.\n"
        history = await client.history()
        asked = [each["content"] for each in history if each["role"] == "user"]
        assert asked == ["look", "python", "javascript", "terminal"]
        assert len(server.sessions) == 1


async def in_javascript(url: str, session_id: str, token: str) -> dict[str, Any]:
    """Go on with a conversation in the JavaScript client; return inputs, texts, and the last token."""
    program = """
        import WebSocket from "ws";
        import { connect, openConversation } from "./bargein/index.js";
        const [url, id, sessionToken] = process.argv.slice(1);
        const { resume, inputs } = await openConversation(url, id, { sessionToken });
        const turns = [];
        const onSession = (session) => session.on("turn", (turn) => turns.push(turn));
        const session = await connect(url, { resume, onSession, WebSocket });
        await session.send("javascript").ended();
        const texts = turns.map((turn) => turn.text);
        const { token } = session.resumeState();
        console.log(JSON.stringify({ inputs: inputs.map((each) => each.text), texts, token }));
        session.leave();
    """
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", program, url, session_id, token,
        cwd=WEB, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _, code = await output(process)
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    return told


async def test_realtime_conversations_are_listed(tmp_path: Path) -> None:
    """The page of the same user lists a conversation that began by the Realtime protocol, and reads it."""
    tokens = BearerTokens({"a": "ann", "b": "bob"})
    store = f"sqlite:///{tmp_path / 'kept.db'}"
    async with serving(play, doors=["realtime"], authenticator=tokens, store=store) as server:
        async with talking(server, "a", conversation=ID) as talk:
            await talk.ask("hello")
        async with http(server) as client:
            for token, number in (("a", 1), ("b", 0)):
                listed = await client.request(
                    "GET", "/v1/sessions", None, {"Authorization": f"Bearer {token}"}
                )
                assert [each["title"] for each in listed.json()["sessions"]] == ["hello"] * number


async def test_a_door_beside_a_socket() -> None:
    """The socket drives the session and is not cut; it sees the turn of the door."""
    async with serving(play, doors=ALL) as server, http(server) as client:
        first = await by_chat(client, "hello")
        epoch, _, seq = first.headers[CURSOR_HEADER].rpartition(".")
        resume = {
            "session_id": first.headers[SESSION_HEADER],
            "token": first.headers[TOKEN_HEADER],
            "cursor": {"epoch": epoch, "seq": int(seq)},
        }
        async with server.connect() as own:
            await own.send({"type": "session.open", "resume": resume})
            await own.until("replay.done")
            second = await by_chat(client, "hello", "You said hello.", "again")
            assert second.json()["choices"][0]["message"]["content"] == "You said again."
            await own.until("turn.ended")
            await own.send({"type": "ping", "id": "p"})
            await own.until("pong")


async def test_doors_do_not_mix_principals() -> None:
    """An id is its principal's at every door."""
    tokens = BearerTokens({"a": "ann", "b": "bob"})
    async with serving(play, doors=ALL, authenticator=tokens) as server, http(server) as client:
        for token in ("a", "b"):
            headers = {"Authorization": f"Bearer {token}"}
            body = {"threadId": ID, "runId": "r", "messages": said("recall")}
            response = await client.post("/v1/ag-ui", body, headers)
            assert '"delta":"[]"' in response.text
        assert len(server.sessions) == 2


async def test_the_applications_history_is_the_truth() -> None:
    """Messages of a client never replace it."""

    class Database:
        async def load(self, session: Any) -> list[dict[str, Any]]:
            return [{"role": "user", "content": "before"}, {"role": "assistant", "content": "yes"}]

        async def save(self, session: Any, turn: Any) -> None:
            pass

    async with serving(play, doors=ALL, history=Database()) as server, http(server) as client:
        answer = await by_chat(client, "forged", "I promise", "recall")
        history = json.loads(answer.json()["choices"][0]["message"]["content"])
        assert [message["content"] for message in history] == ["before", "yes"]


async def test_a_slow_agent_that_never_suspends_is_interrupted() -> None:
    """The door's close is read while the agent yields flat out."""

    async def flat(turn: Turn) -> Any:
        while True:
            output: Output = "word "
            yield output

    async with serving(flat, doors=ALL) as server, http(server) as client:
        async with client.client.stream(
            "POST", client.base + "/v1/ag-ui", json={"threadId": ID, "runId": "r", "messages": said("go")}
        ) as response:
            async for _ in response.aiter_bytes():
                break
        [host] = list(server.sessions)
        await until(lambda: not host.core.busy, "the interrupt")


async def test_pages_of_allowed_origins_may_send_any_header() -> None:
    """The clients of other protocols have headers of their own; other origins may send nothing."""
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-stainless-lang",
    }
    async with serving(play, doors=ALL, origins=["https://good.example"]) as server, http(server) as client:
        for origin, allowed in (("https://good.example", True), ("https://bad.example", False)):
            headers = {**preflight, "Origin": origin}
            response = await client.request("OPTIONS", "/v1/chat/completions", None, headers)
            given = response.headers.get("access-control-allow-headers", "")
            assert (response.status_code == 200 and "x-stainless-lang" in given) is allowed
        body = {"messages": said("hello")}
        response = await client.post("/v1/chat/completions", body, {"Origin": "https://bad.example"})
        assert response.status_code == 403
