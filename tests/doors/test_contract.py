"""The interruption contract through every door, by one table of cases.

A door's way to interrupt differs, and so does the end that it can express; the clauses are the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from time import perf_counter

import pytest

from bargein_server import Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from door_agent import count, play
from door_clients import DOORS, ID, Reader, RealtimeClient, client_of, talking
from live_server import WireKind, serving
from model_server import Upstream
from realtime_client import realtime
from realtime_client import text_of as text_of_response
from realtime_sound import in_pieces, listening, sound, talker
from sse_client import http
from waiting import WAIT_S, until

STOPS = ("ai-sdk", "realtime")
"""Doors with an interrupt of their own, beside the end of a request."""
ENDS = {"chat": [], "ai-sdk": ["finish"], "ag-ui": ["RUN_FINISHED"], "realtime": ["response.done"]}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    """Return the name of a door."""
    return str(request.param)


@pytest.mark.parametrize("wire", ["transport", "asgi"])
async def test_one_end(door: str, wire: WireKind) -> None:
    """Clause 1: a turn has one end, under bargein's server and another one."""
    async with talking(door, wire) as client:
        reader = await client.ask("hello")
        assert reader.text == "You said hello."
        ends = ("finish", "abort", "RUN_FINISHED", "RUN_ERROR", "response.done")
        assert [each["type"] for each in reader.events if each.get("type") in ends] == ENDS[door]
        assert reader.done == (0 if door == "ag-ui" else 1)


async def test_the_fence_and_silence(door: str) -> None:
    """Clauses 2 and 3: an interrupted turn is over within a second, and writes nothing afterwards."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
            began = perf_counter()
            await client.interrupt()
            if door in STOPS:
                await until(lambda: reader.over, "the end")
        await until(lambda: not client.busy, "the end of the turn")
        assert perf_counter() - began < 1
        [host] = list(client.server.sessions)
        last = host.core.side_channel.cursor.seq
        await asyncio.sleep(0.05)
        assert host.core.side_channel.cursor.seq == last


async def test_a_newer_message_ends_the_older_turn(door: str) -> None:
    """Clauses 1 and 4: the older stream gets the end of its own turn, within a second."""
    async with talking(door) as client:
        async with client.asked("count") as older:
            await until(lambda: "5" in older.text, "some output")
            began = perf_counter()
            newer = client_of(door, client.server, client.plain)
            newer.messages = [client.messages[0], {"id": "a", "role": "assistant", "content": older.text}]
            assert (await newer.ask("hello")).text == "You said hello."
            await until(lambda: older.over, "the end of the older stream")
            assert perf_counter() - began < 1
            await newer.lose()
        assert not any("hello" in json.dumps(event) for event in older.events)


async def test_true_history(door: str) -> None:
    """Clause 7: the next turn has what the client read, marked as interrupted."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the turn")
        [asked, cut] = await client.history()
        assert asked == {"role": "user", "content": "count"}
        heard = cut["content"].removesuffix(" [interrupted]")
        assert heard.startswith(reader.text.strip())
        assert len(heard) - len(reader.text) < 40


async def test_valid_history(door: str) -> None:
    """Clause 8: every call has one result, also when its turn was cut while the client was asked."""
    async with talking(door) as client:
        await client.ask("look")
        await client.ask("buy")
        await client.ask("locate")
        history = await client.history()
        calls = [call["id"] for message in history for call in message.get("tool_calls", ())]
        results = [message["tool_call_id"] for message in history if message["role"] == "tool"]
        assert calls == results
        assert len(calls) == 3


async def test_protected_sections(door: str) -> None:
    """Clause 9: a section is written to its end, whichever way the client interrupts."""
    async with talking(door) as client:
        async with client.asked("section") as reader:
            await until(lambda: "This" in reader.text, "the section")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the section")
        [host] = list(client.server.sessions)
        turn = host.core.outside.turns()[0]
        assert str(turn.fold.main_lane.text) == "This is legal."


async def test_a_lost_line(door: str) -> None:
    """Clause 11: where the protocol can resume, a lost request is no interrupt; elsewhere it is one."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
        await client.lose()
        if door not in STOPS:
            await until(lambda: not client.busy, "the interrupt")
            return
        await asyncio.sleep(0.05)
        assert client.busy
        if door == "realtime":  # the turn goes on, and the next question cuts it
            [_, cut] = await client.history()
            assert cut["content"].startswith(reader.text.strip())
            return
        again = Reader()
        async with client.plain.client.stream(
            "GET", f"{client.plain.base}/api/chat/{ID}/stream", timeout=WAIT_S
        ) as response:
            task = asyncio.create_task(again.read(response.aiter_lines()))
            await until(lambda: len(again.text) > len(reader.text) + 10, "the rest")
            assert again.text.startswith(reader.text)
            await client.interrupt()
            await task
        assert again.events[-1]["type"] == "abort"


async def test_always_reading(door: str) -> None:
    """Clause 12: an agent that never suspends delays no interrupt."""

    async def flat(turn: Turn) -> AsyncIterator[Output]:
        while True:
            yield "word "

    async with talking(door, agent=flat) as client:
        async with client.asked("go") as reader:
            await until(lambda: reader.text, "some output")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the turn")


async def test_no_residue(door: str) -> None:
    """Clause 13: after many interrupts nothing is left of the streams."""
    async with talking(door) as client:
        for _ in range(20):
            async with client.asked("count") as reader:
                await until(lambda: "2" in reader.text, "some output")
                await client.interrupt()
            await until(lambda: not client.busy, "the end of the turn")
        await client.lose()
        [host] = list(client.server.sessions)
        await until(lambda: host.connection is None and not client.server.sessions.streams, "no stream")
        assert not host.followers
        await until(lambda: not host.tasks(), "no task")


async def test_a_late_interrupt(door: str) -> None:
    """Clause 4: an interrupt that names an older turn does not end the next one."""
    if door not in STOPS:
        pytest.skip("its interrupt is the end of the turn's own request")
    async with talking(door) as client:
        older = await client.ask("hello")
        async with client.asked("count") as reader:
            await until(lambda: "3" in reader.text, "some output")
            await client.interrupt(older)
            seen = len(reader.text)
            await until(lambda: len(reader.text) > seen + 20, "more output")
            assert client.busy
            await client.interrupt()
            await until(lambda: reader.over, "the end")
        if isinstance(client, RealtimeClient):
            assert [error["code"] for error in client.errors] == ["response_cancel_not_active"]


async def test_cleanup_overlaps(door: str) -> None:
    """Clause 5: the next turn does not wait for the cleanup of an interrupted one."""
    log: list[str] = []

    async def tidy(turn: Turn) -> AsyncIterator[Output]:
        if turn.text != "count":
            yield "Yes."
            return
        try:
            async for output in count(turn):
                yield output
        finally:
            log.append("began")
            await released.wait()
            log.append("ended")

    released = asyncio.Event()
    async with talking(door, agent=tidy) as client:
        async with client.asked("count") as reader:
            await until(lambda: "3" in reader.text, "some output")
            await client.interrupt()
        await until(lambda: log == ["began"], "the cleanup")
        assert (await client.ask("hello")).text == "Yes."
        assert log == ["began"]
        released.set()
        await until(lambda: log == ["began", "ended"], "the end of the cleanup")


async def test_upstream_is_closed(door: str) -> None:
    """Clause 6: the model's stream is closed within 100 ms of the interrupt."""
    async with Upstream() as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url)
        async with talking(door, agent=agent) as client:
            async with client.asked("hello") as reader:
                call = await upstream.call()
                call.open()
                call.text("Well, ")
                await until(lambda: reader.text, "some output")
                gone = asyncio.ensure_future(call.gone())
                await asyncio.sleep(0)
                await client.interrupt()
                if door in STOPS:
                    await until(lambda: reader.over, "the end")
            async with asyncio.timeout(1):
                await gone


async def test_hold() -> None:
    """Clause 10: speech stops the answer, and a cough lets it go on from the exact position.

    The Realtime protocol alone can express it, by the user's voice.
    """
    async with realtime(talker, voice=listening("")) as talk:
        await talk.say("talk")
        await talk.connection.response.create()
        await talk.until("response.output_audio.delta")
        for audio in in_pieces(sound(100, False), sound(500, True), sound(900, False)):
            await talk.connection.input_audio_buffer.append(audio=audio)
        done = (await talk.until("response.done"))["response"]
        assert done["status"] == "completed"
        assert text_of_response(done).split() == ["word"] * 25
        assert any(event["type"] == "input_audio_buffer.speech_started" for event in talk.events)


async def test_a_section_of_a_single_request_is_not_cut() -> None:
    """Its session stays for that long, although nobody can come back to it."""
    async with serving(play, doors=["chat"]) as server, http(server) as plain:
        body = {"stream": True, "messages": [{"role": "user", "content": "section"}]}
        async with plain.client.stream("POST", plain.base + "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if "This" in line:
                    break
        [host] = list(server.sessions)
        await until(lambda: not host.core.busy, "the end of the section")
        [turn] = host.core.outside.turns()
        assert str(turn.fold.main_lane.text) == "This is legal."
        assert turn.fold.ended is not None
        assert turn.fold.ended.status == "interrupted"
