"""A chart that reads `/metrics` shows what a load did: every count is what the clients counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

from bargein_server import BearerTokens, Output, Turn, TurnFailed
from live_server import RawClient, Serving, serving
from waiting import until

SESSIONS = 8
TURNS = 6
TOKENS = BearerTokens({"secret": "load"})
HEADERS = {"Authorization": "Bearer secret"}

COUNTED = {
    ("connections_opened_total", ""): 2,
    ("connections_closed_total", "closed"): 1,
    ("connections_closed_total", "peer"): 1,
    ("sessions_opened_total", "fresh"): 1,
    ("sessions_opened_total", "resumed"): 1,
    ("sessions_closed_total", "closed"): 1,
    ("turns_asked_total", ""): 3 * TURNS + 3,
    ("turns_total", "completed completed"): TURNS + 1,
    ("turns_total", "failed upstream"): TURNS,
    # The reason is the client's own word, which is no label.
    ("turns_total", "interrupted other"): TURNS,
    ("turns_total", "interrupted superseded"): 1,
    ("turns_total", "interrupted session_closed"): 1,
    ("turn_seconds_count", "interrupted"): TURNS + 2,
    ("first_output_seconds_count", ""): 2 * TURNS + 3,
    ("interrupt_fence_seconds_count", ""): TURNS + 1,
    ("interrupt_cleanup_seconds_count", ""): TURNS + 2,
    ("interrupts_total", "interrupted"): TURNS,
    ("interrupts_total", "unknown_turn"): 1,
    ("inputs_rejected_total", "busy"): 1,
    ("errors_total", "unknown_type"): 1,
    ("replays_total", ""): 1,
    ("model_tokens_total", "input"): 10 * (2 * TURNS + 3),
    ("model_tokens_total", "output"): 2 * TURNS + 3,
}
"""What one session adds to each sample, which is told by its name and the values of its labels."""


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Fails, or answers at once, or speaks until it is cut and cleans up for a moment."""
    if turn.text == "fail":
        raise TurnFailed("upstream")
    yield "word "
    turn.add_usage(10, 1)
    if turn.text == "talk":
        try:
            while True:
                yield "word "
                await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0.02)


async def converse(client: RawClient, number: int) -> None:
    """Have turns of every kind: complete, fail, be interrupted, be replaced by another input."""
    for n in range(TURNS):
        for kind in ("short", "fail", "talk"):
            name = f"{kind}{number}_{n}"
            await client.send({"type": "input.text", "id": name, "text": kind})
            if kind == "talk":
                await client.until("text.delta")
                await client.send(
                    {"type": "interrupt", "id": f"x{name}", "input_id": name, "reason": f"r{name}"}
                )
                await client.until("interrupt.result", outcome="interrupted")
            await client.until("turn.ended")
    await client.send({"type": "input.text", "id": f"old{number}", "text": "talk"})
    await client.until("text.delta")
    await client.send({"type": "input.text", "id": f"new{number}", "text": "short"})
    await client.until("turn.ended", status="completed")
    await client.send({"type": "input.text", "id": "busy", "text": "talk"})
    await client.until("text.delta")
    await client.send({"type": "input.text", "id": "no", "text": "x", "on_busy": "reject"})
    await client.until("input.rejected")
    await client.send({"type": "nonsense"})
    await client.until("error")
    await client.send({"type": "interrupt", "id": "none", "turn_id": "none"})
    await client.until("interrupt.result", outcome="unknown_turn")


async def scrape(server: Serving) -> Mapping[tuple[str, str], float]:
    """Return every sample by its name and the values of its labels."""
    status, _, body = await server.request("/metrics", Authorization=HEADERS["Authorization"])
    assert status == 200
    return {
        (
            sample.name.removeprefix("bargein_"),
            " ".join(v for _, v in sorted(sample.labels.items(), reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_a_chart_shows_a_load_run() -> None:
    """Sessions, turns by status and reason, interrupts, rejections, resumes and latencies."""
    async with serving(agent, authenticator=TOKENS, metrics=True) as server:

        async def one(number: int) -> None:
            async with server.connect(additional_headers=HEADERS) as client:
                await client.send({"type": "session.open"})
                opened = await client.receive()
                await converse(client, number)
            async with server.connect(additional_headers=HEADERS) as client:
                cursor = {"epoch": opened["epoch"], "seq": 0}
                proof = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
                await client.send({"type": "session.open", "resume": proof})
                await client.until("replay.done")
                busy = await scrape(server)
                assert busy["turns_open", "running"] >= 1
                await client.send({"type": "session.close"})
                await client.closed()

        await asyncio.gather(*(one(number) for number in range(SESSIONS)))
        await until(lambda: not any(task.get_name().startswith("turn ") for task in asyncio.all_tasks()))
        seen = await scrape(server)

    assert {name: seen[name] for name in COUNTED} == {name: n * SESSIONS for name, n in COUNTED.items()}
    gauges = [("sessions", "attached"), ("sessions", "away"), ("turns_open", "running"), ("connections", "")]
    assert [seen[name] for name in gauges] == [0, 0, 0, 0]
    assert seen["interrupt_cleanup_seconds_sum", ""] >= 0.02 * SESSIONS * TURNS
    assert seen["interrupt_fence_seconds_sum", ""] < 0.01 * SESSIONS * TURNS
    names = {label for (name, label) in seen if name == "turns_total"}
    assert len(names) == 5, "what clients make up is no label"
