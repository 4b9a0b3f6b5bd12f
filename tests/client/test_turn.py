"""A turn in an application's hands, over a real socket."""

from __future__ import annotations

import asyncio

import pytest

import bargein_protocol as bp
from bargein_client import ClientTurn, InputRejected, InterruptRefused, SessionClosed
from bargein_client.events import SessionEvent, TurnEventOrSnapshot
from client_script import (
    ScriptedServer,
    accepted,
    drain,
    ended,
    kinds,
    patiently,
    queued,
    result,
    said,
    started,
    talking,
    text,
    until,
)


async def read(turn: ClientTurn) -> list[SessionEvent]:
    """Iterate a turn to its end."""
    events: list[TurnEventOrSnapshot] = []
    async with asyncio.timeout(20):
        async for event in turn:
            events.append(event)
    return list(events)


async def test_a_turn_is_iterated_to_its_end(server: ScriptedServer) -> None:
    """Typed events in order to the end; text and end stay readable."""
    async with talking(server) as (session, line):
        turn = session.send("hello", metadata={"a": 1})
        assert (turn.id, turn.input) == (None, "hello")
        asked = await line.answer()
        assert (asked.text, asked.on_busy, asked.metadata) == ("hello", None, {"a": 1})
        await patiently(turn.accepted())
        assert turn.id == "t_1"
        await line.send(text(3, "t_1", "one "), text(4, "t_1", "two"), ended(5, "t_1"))
        events = await read(turn)
        assert kinds(events) == ["InputAccepted", "TurnStarted", "TextDelta", "TextDelta", "TurnEnded"]
        assert turn.text == "one two"
        assert turn.end == await turn.ended() == ended(5, "t_1")
        assert turn.state.status == "completed"
        assert await read(turn) == []
        assert session.turns == []


async def test_iterating_late_loses_nothing(server: ScriptedServer) -> None:
    """Events wait for a consumer that comes when all is over."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await line.send(text(3, "t_1", "one "), text(4, "t_1", "two"), ended(5, "t_1"))
        await patiently(turn.ended())
        assert said(await read(turn)) == "one two"


async def test_a_second_loop_goes_on(server: ScriptedServer) -> None:
    """Leaving a loop loses nothing."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await line.send(text(3, "t_1", "one "), text(4, "t_1", "two"), ended(5, "t_1"))
        async for event in turn:
            if isinstance(event, bp.TextDelta):
                break
        assert said(await read(turn)) == "two"


async def test_one_task_reads_a_turn(server: ScriptedServer) -> None:
    """A second reader at the same time is an error of the application."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        first = asyncio.create_task(read(turn))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await read(turn)
        await line.answer()
        await line.send(ended(3, "t_1"))
        assert kinds(await patiently(first))[-1] == "TurnEnded"


async def test_a_rejected_input_raises(server: ScriptedServer) -> None:
    """With the code, whether it may be retried, and when."""
    async with talking(server) as (session, line):
        turn = session.send("hello", on_busy="reject")
        asked = await line.expect(bp.InputText)
        assert asked.on_busy == "reject"
        await line.send(bp.InputRejected(input_id=asked.id, code="busy", retry_after_ms=500))
        with pytest.raises(InputRejected) as caught:
            await patiently(turn.accepted())
        assert (caught.value.code, caught.value.retryable, caught.value.retry_after_ms) == ("busy", True, 500)
        for failing in (turn.ended(), turn.interrupt(), turn.hold(), read(turn)):
            with pytest.raises(InputRejected):
                await patiently(failing)
        assert session.turns == []


async def test_an_input_that_the_server_cannot_read_raises(server: ScriptedServer) -> None:
    """An `error` in place of the answer is the answer."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        asked = await line.expect(bp.InputText)
        await line.send(bp.ErrorEvent(code="bad_event", message="too deep", ref_id=asked.id))
        with pytest.raises(InputRejected, match="bad_event: too deep"):
            await patiently(turn.accepted())


async def test_a_queued_input_is_a_turn(server: ScriptedServer) -> None:
    """`accepted` returns when the input is queued, too."""
    async with talking(server) as (session, line):
        turn = session.send("hello", on_busy="queue")
        asked = await line.expect(bp.InputText)
        await line.send(queued(1, "t_1", asked.id))
        assert isinstance(await patiently(turn.accepted()), bp.InputQueued)


async def test_an_interrupt_returns_the_outcome(server: ScriptedServer) -> None:
    """The reason, the playback and the force reach the server."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        interrupting = asyncio.create_task(
            turn.interrupt(reason="barge_in", played=bp.Played(chars=3), force=True)
        )
        sent = await line.expect(bp.Interrupt)
        assert (sent.turn_id, sent.reason, sent.force) == ("t_1", "barge_in", True)
        assert sent.played == bp.Played(chars=3)
        await line.send(text(3, "t_1", "late"), result(sent.id, "interrupted", "t_1"))
        await line.send(ended(4, "t_1", "interrupted", "barge_in"))
        assert (await patiently(interrupting)).outcome == "interrupted"
        assert said(await read(turn)) == ""


async def test_an_interrupt_before_the_turn_is_accepted(server: ScriptedServer) -> None:
    """The interrupt names the input."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        interrupting = asyncio.create_task(turn.interrupt())
        asked = await line.expect(bp.InputText)
        sent = await line.expect(bp.Interrupt)
        assert (sent.turn_id, sent.input_id) == (None, asked.id)
        await line.send(accepted(1, "t_1", asked.id), result(sent.id, "interrupted", "t_1"))
        await line.send(ended(2, "t_1", "interrupted"))
        assert (await patiently(interrupting)).turn_id == "t_1"
        assert (await patiently(turn.ended())).status == "interrupted"


async def test_an_interrupt_of_an_ended_turn(server: ScriptedServer) -> None:
    """The outcome is `already_ended`."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await line.send(ended(3, "t_1"))
        await patiently(turn.ended())
        interrupting = asyncio.create_task(turn.interrupt())
        sent = await line.expect(bp.Interrupt)
        await line.send(result(sent.id, "already_ended", "t_1"))
        assert (await patiently(interrupting)).outcome == "already_ended"


async def test_two_interrupts_get_two_answers(server: ScriptedServer) -> None:
    """Each call has its own id and its own answer."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        both = asyncio.gather(turn.interrupt(), turn.interrupt())
        one, two = await line.expect(bp.Interrupt), await line.expect(bp.Interrupt)
        await line.send(result(one.id, "interrupted", "t_1"), ended(3, "t_1", "interrupted"))
        await line.send(result(two.id, "already_ended", "t_1"))
        assert [answer.outcome for answer in await patiently(both)] == ["interrupted", "already_ended"]


async def test_a_refused_interrupt_raises(server: ScriptedServer) -> None:
    """An `error` in place of the result."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        interrupting = asyncio.create_task(turn.interrupt())
        sent = await line.expect(bp.Interrupt)
        await line.send(bp.ErrorEvent(code="bad_event", message="no", ref_id=sent.id))
        with pytest.raises(InterruptRefused):
            await patiently(interrupting)


async def test_hold_resume_and_playback_name_the_turn(server: ScriptedServer) -> None:
    """The calls wait for the turn's id."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        holding = asyncio.create_task(turn.hold())
        await line.answer()
        assert await line.receive() == bp.TurnHold(turn_id=bp.TurnId("t_1"))
        await patiently(holding)
        await turn.resume()
        assert await line.receive() == bp.TurnResume(turn_id=bp.TurnId("t_1"))
        turn.report_playback(audio_ms=250)
        assert await line.receive() == bp.Playback(turn_id=bp.TurnId("t_1"), audio_ms=250)


async def test_tools_that_run_in_the_client(server: ScriptedServer) -> None:
    """Outputs, errors and decisions are sent under the call's id."""
    async with talking(server) as (session, line):
        session.send("hello")
        await line.answer()
        session.send_tool_output("c_1", {"n": 1})
        session.send_tool_output("c_2", error="no")
        session.send_tool_decision("c_3", allow=False)
        assert await line.receive() == bp.ToolOutput(call_id=bp.CallId("c_1"), output={"n": 1})
        assert await line.receive() == bp.ToolOutput(call_id=bp.CallId("c_2"), error="no")
        assert await line.receive() == bp.ToolDecision(call_id=bp.CallId("c_3"), allow=False)


async def test_cancelling_a_reader_loses_nothing(server: ScriptedServer) -> None:
    """An event is taken in the step in which it is returned."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        words: list[str] = []
        for seq in range(3, 40):
            reader = asyncio.create_task(_one_word(turn, words))
            await asyncio.sleep(0)
            await line.send(text(seq, "t_1", f"{seq} "))
            for _ in range(seq % 4):
                await asyncio.sleep(0)
            reader.cancel()
            await asyncio.wait([reader])
        await line.send(ended(40, "t_1"))
        words.append(said(await read(turn)))
        assert "".join(words) == "".join(f"{seq} " for seq in range(3, 40))


async def _one_word(turn: ClientTurn, words: list[str]) -> None:
    async for event in turn:
        if isinstance(event, bp.TextDelta):
            words.append(event.text)
            return


async def test_cancelling_an_interrupt_does_not_take_it_back(server: ScriptedServer) -> None:
    """The request stays sent, and its answer is harmless."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await patiently(turn.accepted())
        interrupting = asyncio.create_task(turn.interrupt())
        await asyncio.sleep(0)
        interrupting.cancel()
        sent = await line.expect(bp.Interrupt)
        await line.send(result(sent.id, "interrupted", "t_1"), ended(3, "t_1", "interrupted"))
        assert (await patiently(turn.ended())).status == "interrupted"
        assert interrupting.cancelled()


async def test_cancelling_accepted_keeps_the_turn(server: ScriptedServer) -> None:
    """The input stays sent, and its turn runs."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        waiting = asyncio.create_task(turn.accepted())
        await line.expect(bp.InputText)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert session.turns == [turn]
        await line.send(accepted(1, "t_1", turn.input_id), started(2, "t_1", turn.input_id))
        await patiently(turn.accepted())
        assert turn is session.current


async def test_many_tasks_wait_for_one_end(server: ScriptedServer) -> None:
    """Cancelling one of them leaves the end to the others."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        waiting = [asyncio.create_task(turn.ended()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await line.send(ended(3, "t_1"))
        assert [await patiently(w) for w in waiting[1:]] == [ended(3, "t_1")] * 2


async def test_a_turn_of_a_closed_session_raises(server: ScriptedServer) -> None:
    """The end stays unknown; received events can still be read."""
    async with talking(server) as (session, line):
        turn = session.send("hello")
        await line.answer()
        await line.send(text(3, "t_1", "one"))
        await until(lambda: turn.text == "one")
        await line.close(1000)
        with pytest.raises(SessionClosed):
            await patiently(turn.ended())
        assert said(drain(turn._tracked.inbox)) == "one"
        with pytest.raises(SessionClosed):
            await read(turn)
        with pytest.raises(SessionClosed):
            await turn.interrupt()
