"""The conversation of `bargein chat`, between a user's keys and a scripted server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import bargein_protocol as bp
from bargein_client.cli.chat import Chat
from client_script import (
    ScriptedLine,
    ScriptedServer,
    accepted,
    ended,
    opened,
    patiently,
    result,
    session_lost,
    talking,
    text,
    until,
)
from paper import Paper

C = bp.CallId("c_1")
T = bp.TurnId("t_1")


class Person:
    """Somebody in front of a chat.

    Attributes:
        chat: The chat.
        paper: Its screen.
        line: The server's side of the connection.
        left: How often the person has left.
    """

    def __init__(self, chat: Chat, paper: Paper, line: ScriptedLine, leaving: list[None]) -> None:
        self.chat = chat
        self.paper = paper
        self.line = line
        self._leaving = leaving

    @property
    def left(self) -> int:
        return len(self._leaving)

    async def sees(self, words: str) -> None:
        await until(lambda: words in self.paper.lines)


@asynccontextmanager
async def chatting(server: ScriptedServer) -> AsyncIterator[Person]:
    paper, leaving = Paper(), list[None]()
    async with talking(server) as (session, line):
        chat = Chat(session, paper, lambda: leaving.append(None))
        yield Person(chat, paper, line, leaving)
        await chat.stop()


def confirm(seq: int) -> tuple[bp.ServerEvent, ...]:
    """Return a tool call that waits for the user's decision."""
    return (
        bp.ToolCall(seq=bp.Seq(seq), turn_id=T, call_id=C, name="send_mail"),
        bp.ToolConfirm(seq=bp.Seq(seq + 1), turn_id=T, call_id=C, arguments={"to": "ann"}),
    )


async def test_the_user_decides_about_tools(server: ScriptedServer) -> None:
    """`/yes`, `/no` and such words alone answer the oldest question; later a word is a message."""
    for word, allow in (("/yes", True), ("/no", False), ("yes", True), ("n", False)):
        async with chatting(server) as person:
            person.chat.send("mail her")
            await person.line.answer()
            await person.line.send(*confirm(3))
            await person.sees('may send_mail run with {"to":"ann"}?  /yes  /no')
            person.chat.send(word)
            assert await person.line.expect(bp.ToolDecision) == bp.ToolDecision(call_id=C, allow=allow)
            person.chat.send(word)
            if word.startswith("/"):
                assert person.paper.lines[-1] == "no tool waits for an answer"
            else:
                await person.line.expect(bp.Playback)
                assert (await person.line.expect(bp.InputText)).text == word


async def test_an_empty_line_says_nothing(server: ScriptedServer) -> None:
    """Neither to the server nor on the screen."""
    async with chatting(server) as person:
        person.chat.send("  ")
        assert not person.chat.busy
        person.chat.send(" hello ")
        assert (await person.line.expect(bp.InputText)).text == "hello"
        assert person.paper.lines == ["> hello"]


async def test_words_that_wait_for_a_server_have_a_status(server: ScriptedServer) -> None:
    """The turn before has not ended; the user sees that something is on its way."""
    async with chatting(server) as person:
        person.chat.send("one")
        await person.line.answer()
        await person.line.send(text(3, T, "one two"))
        await until(lambda: person.paper.answer == "one two")
        person.paper.states.clear()
        person.chat.send("two")
        await until(lambda: person.paper.states == ["waiting"])


async def test_ctrl_c_stops_the_answer_and_leaves_when_pressed_again(server: ScriptedServer) -> None:
    """The cut is shown before the server answers."""
    async with chatting(server) as person:
        person.chat.press_break()
        assert person.paper.lines == ["Ctrl-C again leaves"]
        person.chat.send("hello")
        await person.line.answer()
        await person.line.send(text(3, T, "one two"))
        await until(lambda: person.paper.answer == "one two")
        person.chat.press_break()
        assert person.paper.answer == "one two|\n"
        sent = await person.line.expect(bp.Interrupt)
        await person.line.send(result(sent.id, "interrupted", T), ended(4, T, "interrupted"))
        await patiently(person.chat.idle())
        assert person.left == 0
        person.chat.press_break()
        assert person.left == 1


async def test_a_rejected_input_is_told(server: ScriptedServer) -> None:
    """With the server's message; the chat goes on."""
    async with chatting(server) as person:
        person.chat.send("hello")
        asked = await person.line.expect(bp.InputText)
        refusal = bp.ErrorEvent(code="overloaded", message="too many turns", ref_id=asked.id, retryable=True)
        await person.line.send(refusal)
        await patiently(person.chat.idle())
        assert any("too many turns" in line for line in person.paper.lines)
        person.chat.send("again")
        await person.line.answer()


async def test_an_input_of_a_lost_session_is_sent_again(server: ScriptedServer) -> None:
    """The server has applied nothing of it."""
    async with chatting(server) as person:
        person.chat.send("hello")
        asked = await person.line.expect(bp.InputText)
        await person.line.cut()
        line = await server.line()
        await line.open(opened(session="s_2", epoch="e_2", reason="unknown_session"))
        await line.send(session_lost(asked.id))
        again = await line.expect(bp.InputText)
        assert (again.text, again.id == asked.id) == ("hello", False)
        await line.send(accepted(1, T, again.id), text(2, T, "hi"), ended(3, T))
        await patiently(person.chat.idle())
        assert person.paper.answer == "hi\n"


async def test_what_the_user_does_after_the_end_is_told(server: ScriptedServer) -> None:
    """A line, a decision and Ctrl-C each say that the session is over."""
    over = "a newer connection drives the session"
    async with chatting(server) as person:
        running = asyncio.create_task(person.chat.run())
        person.chat.send("hello")
        await person.line.answer()
        await person.line.send(*confirm(3))
        await until(lambda: any("/yes" in line for line in person.paper.lines))
        turn = person.chat._sent[-1].turn
        assert turn is not None
        await person.line.close(4409)
        await asyncio.wait([running])
        assert str(running.exception()) == over
        person.paper.lines.clear()
        person.chat.send("/yes")
        person.chat.send("again")
        await person.chat._interrupt(turn)
        assert person.paper.lines == [over, "> again", over, over]


async def say(person: Person, words: str, turn: bp.TurnId, seq: int) -> None:
    """Send a message and answer it."""
    person.chat.send(words)
    asked = await next_input(person)
    assert asked.text == words
    await person.line.send(accepted(seq, turn, asked.id), text(seq + 1, turn, "hi"), ended(seq + 2, turn))
    await patiently(person.chat.idle())


async def next_input(person: Person) -> bp.InputText:
    """Return the next message, whatever playback is reported before it."""
    while not isinstance(event := await person.line.receive(), bp.InputText):
        assert isinstance(event, bp.Playback)
    return event


async def next_rewind(person: Person) -> bp.SessionRewind:
    """Return the next rewind, whatever playback is reported before it."""
    while not isinstance(event := await person.line.receive(), bp.SessionRewind):
        assert isinstance(event, bp.Playback)
    return event


@pytest.mark.parametrize(("command", "asked"), [("/again", "two"), ("/edit three", "three")])
async def test_the_last_message_is_asked_again(server: ScriptedServer, command: str, asked: str) -> None:
    """Its turn is dropped first; then the same or another message stands in its place."""
    async with chatting(server) as person:
        await say(person, "one", T, 1)
        await say(person, "two", bp.TurnId("t_2"), 4)
        person.chat.send(command)
        rewind = await next_rewind(person)
        assert rewind.turn_id == "t_2"
        gone = [bp.TurnId("t_2")]
        await person.line.send(bp.SessionRewound(seq=bp.Seq(7), rewind_id=rewind.id, turns=gone))
        assert (await next_input(person)).text == asked


async def test_messages_are_taken_back_one_after_another(server: ScriptedServer) -> None:
    """Until there is none; the input of a prompt is prepared for a change."""
    async with chatting(server) as person:
        person.chat.send("/undo")
        assert person.paper.lines == ["there is no message to take back"]
        await say(person, "one", T, 1)
        await say(person, "two", bp.TurnId("t_2"), 4)
        for seq, turn in ((7, "t_2"), (8, "t_1")):
            person.chat.send("/undo")
            rewind = await next_rewind(person)
            assert rewind.turn_id == turn
            gone = [bp.TurnId(turn)]
            await person.line.send(bp.SessionRewound(seq=bp.Seq(seq), rewind_id=rewind.id, turns=gone))
            await patiently(person.chat.idle())
        assert person.paper.lines[-2:] == ["taken back: two", "taken back: one"]
        person.chat.send("/edit")
        assert person.paper.lines[-1] == "there is no message to take back"


async def test_a_message_that_cannot_be_taken_back(server: ScriptedServer) -> None:
    """The refusal has words, nothing is asked again, and the conversation goes on."""
    async with chatting(server) as person:
        await say(person, "one", T, 1)
        person.chat.send("/again")
        rewind = await next_rewind(person)
        await person.line.send(bp.ErrorEvent(code="unknown_turn", message="no", ref_id=rewind.id))
        await patiently(person.chat.idle())
        words = "not accepted: the server has forgotten that message (unknown_turn)"
        assert person.paper.lines[-1] == words
        person.chat.send("/edit")
        assert person.paper.lines[-1] == "expected the new message: /edit TEXT"
        await say(person, "/tmp is a folder", bp.TurnId("t_2"), 4)


async def test_commands_of_the_chat(server: ScriptedServer) -> None:
    """Help names each; leaving needs no key."""
    async with chatting(server) as person:
        person.chat.send("/help")
        commands = {line.split()[0] for line in person.paper.lines if line.startswith("/")}
        assert commands == {"/yes", "/again", "/attach", "/edit", "/undo", "/quit"}
        person.chat.send("/quit")
        assert person.left == 1
