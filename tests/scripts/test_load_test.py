from __future__ import annotations

import asyncio
import io
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bargein_server import Output, Turn
from bargein_server.app import SESSION_PATH
from live_server import serving
from loadgen.agent import agent
from loadgen.figures import Figures
from loadgen.histogram import Histogram
from loadgen.options import Options, parse
from loadgen.run import main, run

SHORT: dict[str, Any] = {
    "sessions": 3,
    "ramp_s": 0.1,
    "duration_s": 0.6,
    "turn_every_s": 0.3,
    "barge_in_s": 0.2,
    "texts": ("30 tokens at 100/s",),
}
LIMITS = [
    "--sessions", "2", "--ramp-s", "0", "--duration-s", "0.5", "--turn-every-s", "0.2", "--barge-in-s", "0.1",
]  # fmt: skip


async def figures_of(url: str, **options: Any) -> dict[str, Any]:
    """Run a short load in this event loop."""
    result, _ = await run(Options(url=url, **{**SHORT, **options}), io.StringIO())
    return result


async def exit_code(url: str, *arguments: str) -> int:
    """Run the command; it has an event loop of its own."""
    return await asyncio.to_thread(main, [url, *LIMITS, *arguments])


# --- a server that knows the protocol and breaks it ------------------------------------------------

Frame = dict[str, Any]
Send = Callable[[Frame], Awaitable[None]]


class Wrong:
    """A server whose turns say one token, and end when they are interrupted; see the flags.

    Args:
        stale: Says a token more after each end.
        late: Says one more between the answer to an interrupt and the end.
        endless: Never ends a turn.
        skips: Leaves a number out before each end.
        twice: Ends each turn twice.
        hangs_up: Closes the line with this code in place of the first answer.
    """

    def __init__(
        self,
        *,
        stale: bool = False,
        late: bool = False,
        endless: bool = False,
        skips: bool = False,
        twice: bool = False,
        hangs_up: int = 0,
    ) -> None:
        self.late = late
        self.stale, self.endless, self.skips, self.twice, self.hangs_up = (
            stale,
            endless,
            skips,
            twice,
            hangs_up,
        )

    async def __call__(self, socket: ServerConnection) -> None:
        seq = 0
        running: dict[str, str] = {}

        async def numbered(kind: str, turn: str, **fields: Any) -> None:
            nonlocal seq
            seq += 1
            await socket.send(json.dumps({"type": kind, "seq": seq, "turn_id": turn, **fields}))

        async def end(turn: str, reason: str) -> None:
            nonlocal seq
            seq += self.skips
            for _ in range(1 + self.twice):
                await numbered(
                    "turn.ended", turn, status="interrupted", reason=reason, last_seq=seq, heard={"seq": seq}
                )
            if self.stale:
                await numbered("text.delta", turn, text="stale")

        async for message in socket:
            event = json.loads(message)
            if event["type"] == "session.open":
                await socket.send(json.dumps(OPENED))
            elif self.hangs_up:
                await socket.close(self.hangs_up)
            elif event["type"] == "input.text":
                for turn in list(running) if not self.endless else ():
                    await end(running.pop(turn), "superseded")
                turn = running[f"t_{event['id']}"] = f"t_{event['id']}"
                await numbered("input.accepted", turn, input_id=event["id"])
                await numbered("text.delta", turn, text="hello")
            elif event["type"] == "interrupt":
                turn = event.get("turn_id") or f"t_{event['input_id']}"
                outcome = "interrupted" if running.pop(turn, None) else "already_ended"
                answer = {"type": "interrupt.result", "interrupt_id": event["id"], "turn_id": turn}
                await socket.send(json.dumps({**answer, "outcome": outcome}))
                if self.late and outcome == "interrupted":
                    await numbered("text.delta", turn, text="late")
                if not self.endless and outcome == "interrupted":
                    await end(turn, "client")


OPENED = {
    "type": "session.opened",
    "session_id": "s",
    "token": "k",
    "epoch": "e",
    "resumed": False,
    "heartbeat_ms": 15000,
    "limits": {"frame_bytes": 262144, "pending": 64, "queued": 8},
}


@asynccontextmanager
async def wrong(**flags: Any) -> AsyncIterator[str]:
    """Serve a `Wrong`; gives its URL."""
    async with serve(
        Wrong(**flags),
        "127.0.0.1",
        0,
        subprotocols=["bargein.v1.json"],  # type: ignore[list-item]
        compression=None,
    ) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


# --- a server as it should be --------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_good_server_shows_every_figure(codec: str) -> None:
    """Everything is timed, every input has an end, and nothing is wrong."""
    async with serving(agent) as server:
        result = await figures_of(server.url, codec=codec)
    assert result["errors"] == {}
    assert result["stale"] == 0
    assert result["sessions"]["reached"] == 3
    assert sum(result["turns"].values()) == result["inputs"] > 3
    assert result["interrupts"]["interrupted"] == result["turns"]["interrupted: client"]
    for name in ("connect", "first-token", "gap", "interrupt", "lag"):
        times = result["times"][name]
        assert times["count"] > 0
        assert 0 < times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"] <= times["max_ms"] < 10_000
    assert result["times"]["stale"] == {"count": 0}
    assert result["tokens"] + 1 >= result["tokens_per_s"] * SHORT["duration_s"] > 0
    assert result["missed"] == []


async def test_what_is_cut_off_at_the_end_is_not_timed() -> None:
    """All users leave in one moment, and cut off what still runs: no user does that."""
    async with serving(agent) as server:
        result = await figures_of(server.url, barge_in=0.0)
    assert result["turns"]["interrupted: client"] > 0
    assert result["times"]["interrupt"] == {"count": 0}


async def test_lost_lines_are_resumed_without_loss() -> None:
    """Every line that is cut comes back with all its numbers; slow readers lose nothing either."""
    async with serving(agent) as server:
        result = await figures_of(server.url, drops=1.0, slow=0.5, slow_s=0.1, duration_s=2.0)
    assert result["errors"] == {}
    assert result["stale"] == 0
    assert result["sessions"]["lines_dropped"] > 0
    assert result["times"]["resume"]["count"] > 0
    assert sum(result["turns"].values()) == result["inputs"]


async def test_a_failing_agent_is_counted() -> None:
    """Turns that fail stand under their reason, and can be limited."""

    async def failing(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        raise RuntimeError("on purpose")

    async with serving(failing) as server:
        result = await figures_of(server.url, barge_in=0.0, limits={"failed": 0})
    assert result["turns"]["failed: agent_error"] == result["inputs"]
    assert result["missed"] == [f"failed: {result['inputs']}, at most 0"]


async def test_the_process_is_watched() -> None:
    """With a process id there are its memory and its processor time."""
    async with serving(agent) as server:
        result = await figures_of(server.url, pid=os.getpid())
    process = result["process"]
    assert 0 < process["rss_mib_before"] <= process["rss_mib_max"]
    assert process["cpu"] > 0
    assert process["cpu_us_per_token"] > 0


# --- servers as they should not be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("skips", "numbers that are missing"),
        ("twice", "a second end of a turn"),
        ("endless", "a turn without an end"),
    ],
)
async def test_a_broken_rule_is_an_error(flag: str, error: str) -> None:
    """A server that breaks the contract is found out, by the kind of what it does."""
    async with wrong(**{flag: True}) as url:
        result = await figures_of(url, patience_s=0.2)
    assert result["errors"][error] > 0
    assert set(result["errors"]) == {error}


async def test_a_server_that_keeps_the_rules_is_not_blamed() -> None:
    """The same server without its faults shows none: what is found above is the fault."""
    async with wrong() as url:
        result = await figures_of(url)
    assert result["errors"] == {}
    assert result["stale"] == 0
    assert result["times"]["interrupt"]["count"] > 0


@pytest.mark.parametrize("flag", ["stale", "late"])
async def test_stale_output_is_found_and_timed(flag: str) -> None:
    """Output after the end of its turn, or once its interrupt was accepted, is stale; it is timed."""
    async with wrong(**{flag: True}) as url:
        result = await figures_of(url, limits={"stale": 0})
    assert result["stale"] == result["times"]["stale"]["count"] > 0
    assert result["times"]["stale"]["max_ms"] > 0
    assert result["missed"] == [f"stale: {result['stale']}, at most 0"]


async def test_an_end_that_never_comes_is_in_the_times() -> None:
    """A turn that hangs counts with the time that it has hung for, not as if it had never been."""
    async with wrong(endless=True) as url:
        result = await figures_of(url, patience_s=0.3, limits={"interrupt-max-ms": 100})
    assert result["times"]["interrupt"]["max_ms"] >= 300
    assert result["missed"]


async def test_a_close_by_the_server_is_an_error() -> None:
    """It stands under its code, and a code that says stop is obeyed."""
    async with wrong(hangs_up=4403) as url:
        result = await figures_of(url, patience_s=0.1)
    assert result["errors"]["closed by the server: 4403 forbidden"] == 3


# --- the command ---------------------------------------------------------------------------------


async def test_limits_decide_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 when all are met, 1 when one is missed, and the output says which; the files are written."""
    files = ["--json", str(tmp_path / "figures.json"), "--picture", str(tmp_path / "times.svg")]
    async with serving(agent) as server:
        assert await exit_code(server.url, "--max-stale", "0", "--max-errors", "0", *files) == 0
        assert "MISSED" not in capsys.readouterr().out
        assert await exit_code(server.url, "--max-gap-p50-ms", "0.001") == 1
    assert "MISSED: gap-p50-ms" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text("utf-8"))["stale"] == 0
    picture = ElementTree.parse(tmp_path / "times.svg").getroot()
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) >= 4


async def test_a_limit_on_what_was_not_measured_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """A run without a resume does not vouch for resumes; that nothing was stale needs no measure."""
    async with serving(agent) as server:
        assert await exit_code(server.url, "--max-resume-p99-ms", "100", "--max-stale-max-ms", "0") == 1
    assert "MISSED: resume-p99-ms: never measured, at most 100\n" in capsys.readouterr().out


async def test_a_server_that_lets_nobody_in_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a session there is no success, whatever the limits."""
    async with serving(agent) as server:
        elsewhere = server.url.replace(SESSION_PATH, "/elsewhere")
        assert await exit_code(elsewhere, "--patience-s", "0.1") == 1
    out = capsys.readouterr().out
    assert "connect: refused with 40" in out
    assert "MISSED: no session was opened" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://host/"],
        ["ws://host/", "--sessions", "0"],
        ["ws://host/", "--barge-in", "1.5"],
        ["ws://host/", "--max-resume-p42-ms", "1"],
        ["ws://host/", "--header", "no colon"],
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """It exits with 2 before anything is connected."""
    with pytest.raises(SystemExit) as left:
        parse(arguments)
    assert left.value.code == 2


def test_every_option_reaches_the_run() -> None:
    """Flags, repeated ones and limits arrive under their names."""
    options = parse(
        [
            "wss://host/x",
            "--text",
            "a",
            "--text",
            "b",
            "--header",
            "Authorization: Bearer x",
            "--max-errors",
            "3",
        ]
    )
    assert options.texts == ("a", "b")
    assert options.headers == {"Authorization": "Bearer x"}
    assert options.limits == {"errors": 3.0}


# --- times ---------------------------------------------------------------------------------------


def spread() -> Iterator[float]:
    """Give durations from a microsecond to a minute."""
    seconds = 1e-6
    while seconds < 60:
        yield seconds
        seconds *= 1.0037


def test_quantiles_are_exact_to_one_per_cent() -> None:
    """A quantile is never shorter than the truth, and at most one per cent longer; the longest is exact."""
    histogram, durations = Histogram(), list(spread())
    for seconds in durations:
        histogram.record(seconds)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        truth = durations[max(0, -(-len(durations) * int(share * 100) // 100) - 1)]
        assert truth * 0.999999 <= histogram.quantile(share) <= truth * 1.0101
    assert histogram.max == durations[-1] == histogram.quantile(1.0)


def test_a_late_request_counts_from_when_it_was_due() -> None:
    """A stall of the generator is in the times; what a timer may be late is not."""
    figures = Figures()
    assert figures.begun(10.0, 10.001) == 10.001
    assert figures.begun(10.0, 10.5) == 10.0
    assert figures.times["lag"].max == 0.5
