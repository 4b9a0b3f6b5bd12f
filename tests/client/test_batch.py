"""`bargein batch` against a real server, and its parts."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bargein_protocol as bp
from bargein_client.cli.batch import (
    MAX_BYTES,
    MAX_INPUTS,
    BadLine,
    ProgressBar,
    Writer,
    batch_url,
    in_requests,
    read_inputs,
    run_batch,
    split_lines,
)
from bargein_server import BearerTokens, Output, Turn, TurnFailed
from live_server import Serving, serving
from waiting import WAIT_S


async def answering(turn: Turn) -> AsyncIterator[Output]:
    """Agent that echoes; late for `slow`, with a failure for `fail`."""
    if turn.text == "fail":
        raise TurnFailed("upstream", retryable=True)
    for _ in range(50 if turn.text == "slow" else 0):
        await asyncio.sleep(0.001)
    yield f"{turn.text}!"


async def batch(server: Serving, *arguments: str, given: str = "") -> tuple[int, list[Any], str]:
    """Run the command; return its exit code, results and messages."""
    url = f"http://127.0.0.1:{server.port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_client", "batch", *arguments[:1], url, *arguments[1:],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(2 * WAIT_S):
        out, err = await process.communicate(given.encode())
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"\xef\xbb\xbfone\r\ntwo\n", ["one", "two", ""]),
        ("a\u2028b\u2029c\u0085d\x0ce\x0bf\x1cg\rh".encode(), ["a\u2028b\u2029c\u0085d\x0ce\x0bf\x1cg\rh"]),
        (b"one\n\xef\xbb\xbftwo", ["one", "\ufefftwo"]),
        (b"\xff", ["\ufffd"]),
    ],
)
def test_only_newlines_end_a_line(data: bytes, lines: list[str]) -> None:
    """A byte order mark is dropped at the start alone."""
    assert split_lines(data) == lines


async def test_separators_of_unicode_are_text(tmp_path: Path) -> None:
    """One input and one answer, in both forms of a line."""
    text = "a\u2028b\u0085c\x0cd"
    file = tmp_path / "inputs"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n" + msgspec.json.encode({"text": text}))
    async with serving(answering) as server:
        code, results, err = await batch(server, str(file))
    assert [result["text"] for result in results] == [f"{text}!", f"{text}!"]
    assert (code, err) == (0, "")


async def test_lines_are_answered_in_order(tmp_path: Path) -> None:
    """Plain lines and JSON lines; a slow answer keeps its place."""
    file = tmp_path / "inputs"
    file.write_text('slow\n\n{"text": "two", "id": "b", "metadata": {"a": 1}}\nthree\n', "utf-8")
    async with serving(answering) as server:
        code, results, said = await batch(server, str(file), "--concurrency", "3")
    assert (code, said) == (0, "")
    assert [(r["index"], r.get("id"), r["text"]) for r in results] == [
        (0, None, "slow!"), (1, "b", "two!"), (2, None, "three!"),
    ]  # fmt: skip


async def test_a_failure_is_told_and_loses_no_other() -> None:
    """Exit code 1; the others are there. The inputs may come from a pipe."""
    async with serving(answering) as server:
        code, results, said = await batch(server, "-", given="one\nfail\nthree")
    assert code == 1
    assert [r["status"] for r in results] == ["completed", "failed", "completed"]
    assert results[1]["reason"] == "upstream"
    assert said == "bargein: 1 of 3 failed\n"


async def test_what_cannot_begin_says_why(tmp_path: Path) -> None:
    """Invalid line, missing file, missing credential."""
    async with serving(answering, authenticator=BearerTokens({"secret": "ann"})) as server:
        code, results, said = await batch(server, "-", given='one\n{"tekst": "x"}\n')
        assert (code, results) == (1, [])
        assert "line 2" in said
        code, results, said = await batch(server, str(tmp_path / "none"))
        assert (code, results) == (1, [])
        assert "cannot read" in said
        code, results, said = await batch(server, "-", given="one")
        assert (code, results) == (1, [])
        assert "--token" in said
        assert (await batch(server, "-", "--token", "secret", given="one"))[0] == 0


@pytest.mark.parametrize("rest", ["", '{"index":1,"id":nu'], ids=["between lines", "within a line"])
async def test_a_broken_connection_fails_the_inputs_without_an_answer(
    rest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a result, and they may be sent again."""
    answer = msgspec.json.encode(result(0)).decode() + "\n" + rest

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer) + 1}\r\n\r\n{answer}".encode())
        writer.close()

    file = tmp_path / "inputs"
    file.write_text("one\ntwo\n", "utf-8")
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/session"
        assert await run_batch(url, str(file), token=None, concurrency=None) == 1
    shown = capsys.readouterr()
    told = [json.loads(line) for line in shown.out.splitlines()]
    assert [item["status"] for item in told] == ["completed", "failed"]
    assert (told[1]["reason"], told[1]["retryable"]) == ("connection_lost", True)
    assert "1 of 2 failed" in shown.err


async def asking(turn: Turn) -> AsyncIterator[Output]:
    """Agent with a tool that needs consent and one that runs in the client."""
    yield bp.ToolCall(call_id=bp.CallId("c_1"), name="send_mail")
    decision = turn.tools.expect(bp.CallId("c_1"), bp.ToolDecision)
    yield bp.ToolConfirm(call_id=bp.CallId("c_1"), arguments={})
    yield "sent" if (await decision).allow else "not sent"
    if turn.text == "locate":
        yield bp.ToolCall(call_id=bp.CallId("c_2"), name="locate")
        answer = turn.tools.expect(bp.CallId("c_2"), bp.ToolOutput)
        yield bp.ToolRunning(call_id=bp.CallId("c_2"), arguments={}, runs_in="client")
        yield f", {(await answer).error}"


@pytest.mark.parametrize(
    ("option", "text", "exit_code", "said"),
    [
        ([], "not sent", 3, "bargein: tools were refused: send_mail; --yes allows tools, --no denies"),
        (["--no"], "not sent", 0, ""),
        (["--yes"], "sent", 0, ""),
    ],
)
async def test_a_batch_asks_nobody(option: list[str], text: str, exit_code: int, said: str) -> None:
    """Tools are refused at once, or allowed at once."""
    async with serving(asking) as server:
        code, results, err = await batch(server, "-", *option, given="one\ntwo")
    assert [result["text"] for result in results] == [text, text]
    assert [result.get("refused_tools") for result in results] == [
        None if option == ["--yes"] else ["send_mail"]
    ] * 2
    assert code == exit_code
    assert err.startswith(said)
    assert bool(err) is bool(said)


async def test_a_batch_runs_no_tools_of_a_client() -> None:
    """They fail, and the message does not recommend an option that is already there."""
    async with serving(asking) as server:
        code, results, err = await batch(server, "-", "--yes", given="locate")
    assert results[0]["text"] == "sent, a batch has no client that runs tools"
    assert results[0]["refused_tools"] == ["locate"]
    assert (code, err) == (3, "bargein: a batch cannot run these tools of a client: locate\n")


def result(index: int, status: bp.TurnStatus = "completed") -> bp.BatchResult:
    return bp.BatchResult(index=index, status=status, reason="r")


@given(order=st.permutations(range(8)))
def test_results_are_written_in_order_as_soon_as_they_can_be(order: list[int]) -> None:
    """None waits for more than those before it."""
    written: list[int] = []
    writer = Writer(lambda ready: written.append(ready.index))
    for count, index in enumerate(order, 1):
        writer.add(result(index))
        here = set(order[:count])
        assert written == list(range(next(n for n in range(9) if n not in here)))
    assert written == list(range(8))


def test_failures_are_counted() -> None:
    """Every input without a completed turn."""
    writer = Writer(lambda ready: None)
    writer.add(result(1, "failed"))
    writer.add(result(0, "interrupted"))
    writer.add(result(2))
    assert (writer.done, writer.failed) == (3, 2)


def test_a_long_file_is_sent_in_several_requests() -> None:
    """By number and by size; none is lost or moved."""
    short = [bp.BatchInput(text=str(n)) for n in range(2 * MAX_INPUTS + 1)]
    assert list(map(len, in_requests(short))) == [MAX_INPUTS, MAX_INPUTS, 1]
    long = [bp.BatchInput(text="x" * (MAX_BYTES // 3))] * 5
    parts = list(in_requests(long))
    assert [item for part in parts for item in part] == long
    assert max(map(len, parts)) == 2
    assert list(in_requests([])) == []


def test_lines_are_inputs() -> None:
    """A line that does not begin like an object is a message."""
    assert read_inputs(["  a b ", "", ' {"text":"c"}', "[1]"]) == [
        bp.BatchInput(text="a b"), bp.BatchInput(text="c"), bp.BatchInput(text="[1]"),
    ]  # fmt: skip
    with pytest.raises(BadLine) as bad:
        read_inputs(["a", "{"])
    assert bad.value.number == 2


def test_the_bar_is_for_terminals() -> None:
    """The bar is redrawn and removed; other streams get nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown, hidden = Terminal(), io.StringIO()
    for out in (shown, hidden):
        bar = ProgressBar(4, out)
        bar.show(1, 0)
        bar.show(4, 2)
        bar.clear()
    drawn = shown.getvalue().split("\r\x1b[K")
    assert drawn == ["", "█" * 6 + "░" * 18 + " 1/4", "█" * 24 + " 4/4  2 failed", ""]
    assert hidden.getvalue() == ""


@pytest.mark.parametrize(
    ("socket", "batches"),
    [
        ("ws://localhost:8000/v1/session", "http://localhost:8000/v1/batch"),
        ("wss://a.example/agents/v1/session", "https://a.example/agents/v1/batch"),
    ],
)
def test_batches_are_beside_the_socket(socket: str, batches: str) -> None:
    """Under the same path."""
    assert batch_url(socket) == batches
