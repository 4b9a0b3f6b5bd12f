"""Conversations that go on in another program, another terminal, or another process of the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import bargein_protocol as bp
from bargein_client import (
    ClientSession,
    ConnectError,
    SessionClosed,
    SessionReplaced,
    connect,
    list_conversations,
    open_conversation,
)
from bargein_client.cli.history import events_of
from bargein_server import BearerTokens, Output, Turn
from client_script import ScriptedServer, ended, opened, patiently, replay_done, text
from client_script import started as begun
from live_server import Serving, serving
from terminal_session import on_pipes, on_terminal, output
from waiting import until

TOKENS = BearerTokens({"a": "ann", "b": "bob"})


class Scenes:
    """An agent that answers, counts until it may end, or recalls the inputs.

    Attributes:
        may_end: Set to let counting end.
    """

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        if turn.text == "count":
            number = 0
            while not self.may_end.is_set():
                number += 1
                yield f"{number} "
                await asyncio.sleep(0.01)
            yield "enough"
        elif turn.text == "recall":
            yield " / ".join(
                str(each["content"]) for each in turn.history.messages() if each["role"] == "user"
            )
        else:
            yield f"You said **{turn.text}**."


@asynccontextmanager
async def kept(path: Path, agent: Scenes | None = None) -> AsyncIterator[Serving]:
    """Serve an agent to two users, with a store."""
    store = f"sqlite:///{path / 'kept.db'}"
    async with serving(agent or Scenes(), authenticator=TOKENS, store=store) as server:
        yield server


async def begin(server: Serving, *texts: str, token: str | None = "a") -> bp.Resume:
    """Hold a conversation and leave it; return the way back."""
    async with connect(server.url, token=token) as session:
        for each in texts:
            assert (await patiently(session.send(each).ended())).status == "completed"
        state = session.resume_state()
        assert state is not None
        await session.leave()
        return state


def texts_of(session: ClientSession) -> list[str]:
    """Return the answers before the session went on here."""
    return [state.lanes[""].text for state in session.history]


# --- the library ---------------------------------------------------------------------------------------


async def test_a_session_goes_on_in_another_program(tmp_path: Path) -> None:
    """With its turns and its inputs, also after a restart of the server; the list has it."""
    async with kept(tmp_path) as server:
        left = await begin(server, "one", "two")
    async with kept(tmp_path) as server:
        (listed,) = await list_conversations(server.url, token="a")
        assert (listed.session_id, listed.title, listed.turns) == (left.session_id, "one", 2)
        assert await list_conversations(server.url, token="b") == []
        way = await open_conversation(server.url, listed.session_id, token="a")
        assert [each.text for each in way.inputs] == ["one", "two"]
        async with connect(server.url, token="a", resume=way.resume) as session:
            assert session.id == left.session_id
            assert texts_of(session) == ["You said **one**.", "You said **two**."]
            assert [state.input_id for state in session.history] == [each.input_id for each in way.inputs]
            turn = session.send("recall")
            await patiently(turn.ended())
            assert turn.text == "one / two / recall"
            assert len(session.history) == 2, "what came before, and nothing later"
        assert (await list_conversations(server.url, token="a"))[0].turns == 3, "it was left, not closed"


async def test_without_authentication_the_token_is_the_proof() -> None:
    """The way back holds it; the id alone opens nothing, and nothing is listed."""
    async with serving(Scenes()) as server:
        left = await begin(server, "one", token=None)
        for given in (None, "wrong"):
            with pytest.raises(ConnectError) as refused:
                await open_conversation(server.url, left.session_id, session_token=given)
            assert refused.value.status == (403 if given is None else 404)
        with pytest.raises(ConnectError):
            await list_conversations(server.url)
        way = await open_conversation(server.url, left.session_id, session_token=left.token)
        async with connect(server.url, resume=way.resume) as session:
            assert texts_of(session) == ["You said **one**."]


async def test_a_running_turn_goes_on_live() -> None:
    """It is among the turns, from its first word; it can be interrupted, and no other turn is lost."""
    agent = Scenes()
    async with serving(agent) as server, connect(server.url) as first:
        await patiently(first.send("one").ended())
        turn = first.send("count")
        await until(lambda: "5" in turn.text)
        state = first.resume_state()
        assert state is not None
        async with connect(server.url, resume=state) as second:
            with pytest.raises(SessionReplaced):
                await patiently(first.closed())
            assert texts_of(second) == ["You said **one**."]
            (again,) = second.turns
            assert again.id == turn.id
            assert again.text.startswith("1 2 3 4 5 ")
            assert (await patiently(again.interrupt())).outcome == "interrupted"
            recalled = second.send("recall")
            await patiently(recalled.ended())
            assert recalled.text == "one / count / recall"


async def test_a_session_that_is_gone_or_anothers(tmp_path: Path) -> None:
    """The first connection fails with the reason; no fresh session takes its place."""
    async with kept(tmp_path) as server:
        left = await begin(server, "one")
        for token, session_id in (("b", left.session_id), ("a", bp.SessionId("s_none"))):
            with pytest.raises(ConnectError) as refused:
                await open_conversation(server.url, session_id, token=token)
            assert (refused.value.status, refused.value.code) == (404, bp.errors.SESSION_LOST)
        way = bp.Resume(session_id=left.session_id, token=bp.Token("wrong"), cursor=left.cursor)
        with pytest.raises(ConnectError) as gone:
            async with connect(server.url, token="a", resume=way):
                pass
        assert gone.value.code is bp.errors.SESSION_LOST
        await until(lambda: [host.view.id for host in server.sessions] == [left.session_id])


async def test_a_server_that_is_no_server_of_ours(server: ScriptedServer) -> None:
    """Any other answer is an error of the connection."""
    with pytest.raises(ConnectError):
        await open_conversation(f"ws://127.0.0.1:{server.port}", "s_1", token="a")
    with pytest.raises(ConnectError):
        await open_conversation("ws://127.0.0.1:9", "s_1", token="a")
    with pytest.raises(ConnectError, match="ASCII"):
        await open_conversation("ws://127.0.0.1:9", "s_1", token="\N{SNOWMAN}")


async def test_the_last_requests_are_sent_before_the_session_is_left() -> None:
    """Leaving is no interrupt, and no input is lost."""
    agent = Scenes()
    async with serving(agent) as server:
        async with connect(server.url) as session:
            await patiently(session.send("count").accepted())
            session.update({"last": "word"})
            state = session.resume_state()
            await session.leave()
            assert session.resume_state() is None
            with pytest.raises(SessionClosed):
                session.send("late")
        (host,) = server.sessions
        await until(lambda: host.view.metadata == {"last": "word"})
        assert host.core.busy
        agent.may_end.set()
        async with connect(server.url, resume=state) as session:
            await until(lambda: not session.turns)


async def test_rewound_turns_are_no_history(server: ScriptedServer) -> None:
    """The replay holds the turns, and later the event that dropped one of them."""
    start = bp.Cursor(epoch=bp.Epoch("e_1"), seq=bp.NO_SEQ)
    way = bp.Resume(session_id=bp.SessionId("s_1"), token=bp.Token("k"), cursor=start)

    async def play() -> None:
        line = await server.line()
        await line.expect(bp.SessionOpen)
        await line.send(opened(resumed=True))
        for seq, turn in ((1, "t_1"), (4, "t_2")):
            await line.send(begun(seq, turn, f"in_{turn}"), text(seq + 1, turn, turn), ended(seq + 2, turn))
        dropped = bp.SessionRewound(seq=bp.Seq(7), rewind_id=bp.RewindId("r"), turns=[bp.TurnId("t_2")])
        await line.send(dropped, replay_done(7))

    playing = asyncio.create_task(play())
    async with connect(server.url, resume=way) as session:
        assert texts_of(session) == ["t_1"]
    await playing


def test_a_turn_is_shown_as_it_was() -> None:
    """Tools stand between the words around them, and an interrupted answer ends where it was heard."""
    tool = bp.ToolState(
        call_id=bp.CallId("c"), name="look", given={"at": "sky"}, state="completed", text_at=4, duration_ms=9
    )
    lost = bp.ToolState(call_id=bp.CallId("d"), name="ask", state="called", text_at=4)
    state = bp.TurnState(
        turn_id=bp.TurnId("t"),
        status="interrupted",
        reason="client",
        heard=bp.Heard(text="one two"),
        lanes={"": bp.LaneState(text="one two three", thoughts="hm", tools=[tool, lost])},
    )
    shown = list(events_of(state))
    assert [type(event).__name__ for event in shown] == [
        "Thought", "TextDelta", "ToolCall", "ToolRunning", "ToolResult", "ToolCall", "TextDelta", "TurnEnded",
    ]  # fmt: skip
    assert [event.text for event in shown if isinstance(event, bp.TextDelta)] == ["one ", "two"]


# --- the terminal ----------------------------------------------------------------------------------------


async def test_a_terminal_goes_on_and_shows_what_was(tmp_path: Path) -> None:
    """The words of both sides, then a prompt; commands reach back, and the way back is printed."""
    async with kept(tmp_path) as server:
        left = await begin(server, "one", "two")
        async with on_terminal(
            "chat", server.url, "--session", left.session_id, BARGEIN_TOKEN="a"
        ) as terminal:
            for words in ("> one", "You said one.", "> two", "You said two."):
                await terminal.expect(words)
            terminal.type("/undo\r")
            await terminal.expect("taken back: two")
            terminal.type("recall\r")
            await terminal.expect("one / recall")
            terminal.type("\x03\x03")
            assert await terminal.wait() == 0
        (listed,) = await list_conversations(server.url, token="a")
        assert listed.session_id == left.session_id


async def test_two_terminals_at_once(tmp_path: Path) -> None:
    """The second one takes over, in the middle of an answer; the first one says so and ends."""
    agent = Scenes()
    async with kept(tmp_path, agent) as server:
        async with on_terminal("chat", server.url, "--keep", BARGEIN_TOKEN="a") as first:
            await first.expect("connected")
            first.type("count\r")
            await first.expect("1 2 3")
            (session_id,) = [host.view.id for host in server.sessions]
            async with on_terminal("chat", server.url, "--session", session_id, BARGEIN_TOKEN="a") as second:
                await second.expect("> count")
                await second.expect("1 2 3")
                await first.expect("a newer connection drives the session")
                assert await first.wait() == 1
                agent.may_end.set()
                await second.expect("enough")
                second.type("recall\r")
                await second.expect("count / recall")


async def test_turns_of_other_clients_are_shown_live(tmp_path: Path) -> None:
    """A request at another door runs in the session that the terminal has open."""
    store = f"sqlite:///{tmp_path / 'kept.db'}"
    async with serving(Scenes(), authenticator=TOKENS, store=store, doors=["chat"]) as server:
        headers = {
            "Authorization": "Bearer a",
            "Content-Type": "application/json",
            "X-Conversation-Id": "5f0c8c5e-8f0f-4b0e-9d3c-2a8f2f1d7a55",
        }

        async def by_door(*texts: str) -> None:
            roles = ("user", "assistant")
            messages = [{"role": roles[n % 2], "content": each} for n, each in enumerate(texts)]
            path, body = "/v1/chat/completions", json.dumps({"messages": messages}).encode()
            assert (await server.request(path, "POST", body, **headers))[0] == 200

        await by_door("one")
        (session_id,) = [host.view.id for host in server.sessions]
        async with on_terminal("chat", server.url, "--session", session_id, BARGEIN_TOKEN="a") as terminal:
            await terminal.expect("You said one.")
            await by_door("one", "You said **one**.", "two")
            await terminal.expect("another client has asked:")
            await terminal.expect("You said two.")
            terminal.type("recall\r")
            await terminal.expect("one / two / recall")


@pytest.mark.parametrize("token", ["a", None])
async def test_send_keeps_and_goes_on(token: str | None) -> None:
    """One message after another; the printed way back works, with or without authentication."""
    credential = {} if token is None else {"BARGEIN_TOKEN": token}
    async with serving(Scenes(), authenticator=None if token is None else TOKENS) as server:
        async with on_pipes("send", server.url, "one", "--keep", **credential) as process:
            out, err, code = await output(process)
        assert (out, code) == ("You said **one**.\n", 0)
        way = next(line for line in err.splitlines() if "go on with:" in line)
        *before, session_id = way.removeprefix("bargein: go on with: ").split()
        secrets = dict(each.split("=", 1) for each in before if each.startswith("BARGEIN_"))
        assert len(secrets) == (0 if token else 1)
        for expected in ("one / recall", "one / recall / recall"):
            async with on_pipes(
                "send", server.url, "recall", "--session", session_id, **credential, **secrets
            ) as process:
                out, err, code = await output(process)
            assert (out, code) == (f"{expected}\n", 0), err
            for line in err.splitlines():
                if "BARGEIN_SESSION_TOKEN=" in line:
                    secrets = {"BARGEIN_SESSION_TOKEN": line.partition("TOKEN=")[2].split()[0]}
        async with on_pipes("chat", server.url, "--session", session_id, **credential, **secrets) as process:
            out, err = (part.decode() for part in await process.communicate(b"/undo\nrecall\n"))
        assert out == "one / recall / recall\n", err


async def test_why_a_conversation_cannot_be_opened(tmp_path: Path) -> None:
    """Another user's, one that is over, and one without a credential: the cause and the remedy."""
    async with kept(tmp_path) as server:
        left = await begin(server, "one")
        for token, session_id, words in (
            ("b", left.session_id, "it is over, or it is another user's"),
            ("a", "s_none", "it is over, or it is another user's"),
            (None, left.session_id, "BARGEIN_TOKEN"),
        ):
            given = {} if token is None else {"BARGEIN_TOKEN": token}
            async with on_pipes("send", server.url, "hi", "--session", session_id, **given) as process:
                out, err, code = await output(process)
            assert (out, code) == ("", 1)
            assert words in err
    async with serving(Scenes()) as server:
        left = await begin(server, "one", token=None)
        async with on_pipes("chat", server.url, "--session", left.session_id) as process:
            _, err, code = await output(process)
        assert code == 1
        assert "BARGEIN_SESSION_TOKEN" in err


async def test_the_list_of_conversations(tmp_path: Path) -> None:
    """One line each, for people or for programs; without a credential the reason."""
    async with kept(tmp_path) as server:
        left = await begin(server, "one\x1b[2J", "two")
        async with on_pipes("sessions", server.url, BARGEIN_TOKEN="a") as process:
            out, _, code = await output(process)
        assert code == 0
        assert out.startswith(f"{left.session_id}  ")
        assert "2 turns  one" in out
        assert "\x1b" not in out
        async with on_pipes("sessions", server.url, "--json", BARGEIN_TOKEN="a") as process:
            assert f'"session_id":"{left.session_id}"' in (await output(process))[0]
        async with on_pipes("sessions", server.url) as process:
            _, err, code = await output(process)
        assert code == 1
        assert "BARGEIN_TOKEN" in err
