"""Metrics: what is counted where, and that nobody can make them grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bargein_protocol import (
    CODES,
    Cursor,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Resume,
    Seq,
    SessionOpen,
    SessionOpened,
    Token,
    TurnHold,
    TurnId,
)
from bargein_server import Agent, Output, Settings, Turn, TurnFailed
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.telemetry import Telemetry
from bargein_server.telemetry.metrics import Metrics
from memory_client import Line
from waiting import until


class Counted:
    """Sessions with metrics.

    Attributes:
        sessions: The sessions.
    """

    def __init__(self, agent: Agent, **settings: object) -> None:
        self.metrics = Metrics(lambda: {"bargein_draining": 1.0}, lambda: {403: 2})
        limits = Settings(**{"drain_s": 0.0, **settings})  # type: ignore[arg-type]
        self.sessions = SessionRegistry(agent, limits, Telemetry([self.metrics]))

    def samples(self) -> Mapping[tuple[str, ...], float]:
        """Return every sample by its name and the values of its labels."""
        return {
            (sample.name.removeprefix("bargein_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.metrics.text().decode())
            for sample in family.samples
        }


async def words(turn: Turn) -> AsyncIterator[Output]:
    """Says as many words as it is asked for."""
    for _ in range(int(turn.text)):
        yield "word "
        await asyncio.sleep(0)


async def endless(turn: Turn) -> AsyncIterator[Output]:
    """Speaks until it is cut."""
    while True:
        yield "word "
        await asyncio.sleep(0)


async def test_tokens_make_no_samples() -> None:
    """Neither more of them nor others, however much is said."""
    counted = Counted(words)
    line = Line(counted.sessions)
    line.ask("1")
    await line.until("turn.ended")
    before = counted.samples()
    line.ask("1000")
    await line.until("turn.ended", 2)
    after = counted.samples()
    assert after.keys() == before.keys()
    assert after["turns_total", "completed", "completed"] == 2


async def test_words_of_clients_and_agents_are_no_labels() -> None:
    """A reason of their own is `other`."""

    async def failing(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        if turn.text == "fail":
            raise TurnFailed("my own reason")
        await asyncio.Event().wait()

    counted = Counted(failing)
    line = Line(counted.sessions)
    line.ask("fail")
    await line.until("turn.ended")
    for n in range(20):
        turn = line.ask()
        line.send(Interrupt(id=InterruptId(f"r{n}"), turn_id=turn, reason=f"reason {n}"))
    samples = counted.samples()
    assert samples["turns_total", "other", "failed"] == 1
    assert samples["turns_total", "other", "interrupted"] == 20


async def test_rejections_are_counted_by_code() -> None:
    """Those of inputs, and errors; the codes are those of the protocol's table."""
    counted = Counted(endless, max_queued_inputs=0)
    line = Line(counted.sessions)
    line.ask()
    line.send(InputText(id=InputId("a"), text="x", on_busy="reject"))
    line.send(InputText(id=InputId("b"), text="x", on_busy="queue"))
    line.send(TurnHold(turn_id=TurnId("none")))
    line.connection.receive(b"{", True)
    samples = counted.samples()
    assert samples["inputs_rejected_total", "busy"] == 1
    assert samples["inputs_rejected_total", "queue_full"] == 1
    assert samples["errors_total", "unknown_turn"] == 1
    assert samples["errors_total", "bad_frame"] == 1
    assert {key[1] for key in samples if key[0] == "errors_total"} <= {code.name for code in CODES}
    assert samples["requests_refused_total", "403"] == 2
    assert samples["draining",] == 1


async def test_a_resend_is_no_interrupt() -> None:
    """It is counted as what it is."""
    counted = Counted(endless)
    line = Line(counted.sessions)
    turn = line.ask()
    for _ in range(3):
        line.send(Interrupt(id=InterruptId("x"), turn_id=turn))
    line.send(Interrupt(id=InterruptId("late"), turn_id=turn))
    samples = counted.samples()
    assert samples["interrupts_total", "interrupted"] == 1
    assert samples["interrupts_total", "duplicate"] == 2
    assert samples["interrupts_total", "already_ended"] == 1
    assert samples["interrupt_fence_seconds_count",] == 1


@pytest.mark.parametrize(("log_events", "snapshots"), [(4096, 0), (2, 1)])
async def test_a_resume_is_counted_by_what_it_got(log_events: int, snapshots: int) -> None:
    """A replay from the log, or a snapshot when the log has forgotten; a refused one by its reason."""
    counted = Counted(words, max_log_events=log_events)
    line = Line(counted.sessions)
    line.ask("20")
    await line.until("turn.ended")
    opened = line.events[0]
    assert isinstance(opened, SessionOpened)
    cursor = Cursor(epoch=opened.epoch, seq=Seq(1))
    again = Line(counted.sessions)
    again.send(SessionOpen(resume=Resume(session_id=opened.session_id, token=opened.token, cursor=cursor)))
    await again.until("replay.done")
    wrong = Line(counted.sessions)
    proof = Resume(session_id=opened.session_id, token=Token("wrong"), cursor=cursor)
    wrong.send(SessionOpen(resume=proof))
    samples = counted.samples()
    assert samples["replays_total",] == 1
    assert samples["snapshots_total",] == snapshots
    assert samples["sessions_opened_total", "resumed"] == 1
    assert samples["sessions_opened_total", "bad_token"] == 1


async def test_gauges_follow_sessions_and_what_waits() -> None:
    """Attached or away, running or waiting, and the bytes that a slow client has not taken."""
    counted = Counted(endless)
    line, other = Line(counted.sessions), Line(counted.sessions)
    line.ask()
    other.ask()
    line.send(InputText(id=InputId("q"), text="x", on_busy="queue"))
    other.drop()
    line.block()
    await until(lambda: counted.samples()["queued_bytes",] > 1000)
    samples = counted.samples()
    assert samples["sessions", "attached"] == 1
    assert samples["sessions", "away"] == 1
    assert samples["connections",] == 1
    assert samples["turns_open", "running"] == 2
    assert samples["turns_open", "waiting"] == 1
    await counted.sessions.shut_down()
    samples = counted.samples()
    assert [samples["sessions", "attached"], samples["sessions", "away"]] == [0, 0]
    assert [samples["turns_open", "running"], samples["turns_open", "waiting"]] == [0, 0]
    assert samples["queued_bytes",] == 0
    assert samples["sessions_closed_total", "shutdown"] == 2


@pytest.mark.virtual_time
async def test_heartbeats_are_counted() -> None:
    """One for each silence."""

    async def silent(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        await asyncio.sleep(25)

    counted = Counted(silent, heartbeat_s=10)
    line = Line(counted.sessions)
    line.ask()
    while not line.ends():
        await asyncio.sleep(1)
    assert counted.samples()["heartbeats_total",] == line.types().count("heartbeat") > 0
