"""Figures that come while the table is still read."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import statistics
from pathlib import Path
from typing import Any, cast

import pytest

from bargein_server.examples import analysis
from bargein_server.examples.analysis import BadTable, Question, Report, agent, compute, table
from bargein_server.streams import Push
from example_client import Talk
from live_server import serving
from model_server import Upstream
from waiting import until

TABLE = Path(analysis.__file__).with_name("interrupts.csv")


@pytest.fixture(autouse=True)
def own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that comes with the example, unless a test sets another."""
    monkeypatch.delenv("ANALYSIS_CSV", raising=False)


def computed(text: str, question: str = "summary") -> list[Report]:
    """Return the reports of a table."""
    reports: list[Report] = []
    compute(io.StringIO(text), question, cast("Push[Report]", reports.append))
    return reports


def column(name: str, **where: str) -> list[float]:
    """Return the numbers of a column of the table that comes with the example."""
    with TABLE.open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if where.items() <= row.items()]


async def test_figures_as_they_come() -> None:
    """After 100, 200, 400 and 800 rows, and at the end: the same as those of the standard library."""
    async with serving(agent) as server, server.connect() as client:
        talk = Talk(server, client, cast("Upstream", None))
        await talk.ask("interrupt_ms by clients")
        assert (await talk.ended())["status"] == "completed"
    *running, final = talk.data("figures")
    assert [sum(row["count"] for row in figures) for figures in running] == [100, 200, 400, 800]
    assert [row["group"] for row in final] == ["1", "10", "50"]
    for row in final:
        values = column("interrupt_ms", clients=row["group"])
        assert row["count"] == len(values)
        for name, value in {
            "mean": statistics.mean(values), "deviation": statistics.stdev(values),
            "median": statistics.median_low(values), "min": min(values), "max": max(values),
        }.items():  # fmt: skip
            assert row[name] == pytest.approx(value, rel=1e-3), name
    assert "Means after 100 rows: interrupt_ms " in talk.said()
    assert "| interrupt_ms | 50 | 300 |" in talk.said()


async def test_a_table_of_the_client() -> None:
    """As metadata, or pasted below the question."""
    async with serving(agent) as server, server.connect() as client:
        talk = Talk(server, client, cast("Upstream", None))
        await talk.ask("summary", metadata={"csv": "a,b\n1,x\n3,y\n"})
        await talk.ended()
        assert talk.data("figures")[-1][0]["mean"] == 2
        await talk.ask("a by b\na,b\n1,x\n3,y\n5,y\n")
        await talk.ended()
        assert [(row["group"], row["mean"]) for row in talk.data("figures")[-1]] == [("x", 1), ("y", 4)]


@pytest.mark.parametrize("named", ["/etc/passwd", "summary of /etc/passwd, please\n/etc/passwd"])
async def test_a_path_from_a_client_is_not_opened(named: str) -> None:
    """It gets the figures of the server's own table."""
    async with serving(agent) as server, server.connect() as client:
        talk = Talk(server, client, cast("Upstream", None))
        await talk.ask(named, metadata={"path": "/etc/passwd", "ANALYSIS_CSV": "/etc/passwd"})
        assert (await talk.ended())["status"] == "completed"
        assert "All 900 rows" in talk.said()
        assert "root" not in talk.said()


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table that comes as slowly as a test writes it."""
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    monkeypatch.setenv("ANALYSIS_CSV", str(path))
    return path


def write_rows(file: int) -> None:
    """Write far more rows than lie between two reports."""
    for _ in range(1000):
        os.write(file, b"1\n" * 1000)


async def test_an_interrupt_while_the_table_is_read(pipe: Path) -> None:
    """The figures that came are in the history, and the thread ends at its next report."""
    before = asyncio.all_tasks()
    async with serving(agent) as server, server.connect() as client:
        talk = Talk(server, client, cast("Upstream", None))
        await talk.ask("summary")
        file = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
        try:
            os.write(file, b"a\n" + b"1\n" * 6000)
            await talk.text("after 100 rows")
            assert (await talk.interrupt())["outcome"] == "interrupted"
            assert (await talk.ended())["heard"]["text"].startswith("Means after 100 rows: a 1.")
            turn = await talk.ask("a\na,b\n2,x\n")
            assert (await talk.ended())["status"] == "completed"
            [host] = server.sessions
            history = host.core.history(cast("Any", turn)).messages()
            assert history[1]["content"].endswith("[interrupted]")
            with pytest.raises(BrokenPipeError):  # nobody reads them any more
                await asyncio.to_thread(write_rows, file)
        finally:
            os.close(file)
    await until(lambda: asyncio.all_tasks() <= before, "the end of all tasks")


@pytest.mark.parametrize(
    ("content", "answer"),
    [(b"a,b\n\xff\xfe", "I cannot read the table"), (b"", "There are no numbers"), (None, "I cannot read")],
)
async def test_a_table_that_cannot_be_read(
    content: bytes | None, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not CSV, empty, or missing: the answer says so, without the server's path."""
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("ANALYSIS_CSV", str(path))
    async with serving(agent) as server, server.connect() as client:
        talk = Talk(server, client, cast("Upstream", None))
        await talk.ask("summary")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said().startswith(answer)
        assert str(tmp_path) not in talk.said()


def test_a_question() -> None:
    """Columns by name, and the one after "by"."""
    header = ["Price", "year", "shop"]
    assert Question.read("price and YEAR by shop", header) == (["Price", "year"], "shop")
    assert Question.read("what is in it?", header) == ([], "")
    assert Question.read("by nothing", header) == ([], "")


def test_cells_that_are_no_numbers() -> None:
    """They are left out, and short rows do no harm."""
    final = computed("a,b\n1,x\nnan,y\ninf\n,\n3,4\n")[-1]
    assert {key: row["count"] for key, row in final.figures.items()} == {("a", ""): 2, ("b", ""): 1}
    assert final.rows == 5
    assert "| a | all | 2 | 2 |" in table(final)


def test_too_many_groups() -> None:
    """A table whose groups are all different is refused."""
    rows = "\n".join(f"{n},{n}" for n in range(100))
    with pytest.raises(BadTable):
        computed(f"a,b\n{rows}\n", "a by b")
