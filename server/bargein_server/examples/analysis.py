"""Data analysis that reports its figures while it still reads the table.

    bargein-server bargein_server.examples.analysis:agent

Ask "interrupt_ms by clients", or "summary". The table is one of

- a table that the client sends, as the metadata `csv` of the input, or pasted below the question;
- the file `ANALYSIS_CSV` of whoever starts the server; a path from a client is never opened;
- `interrupts.csv`, which comes with the examples: interrupts of a real server, measured one by one.

A thread reads it, and pushes figures after 100, 200, 400, … rows. An interrupt ends the thread at its next
push; the figures that were received stay in the history. No model is needed.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from array import array
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bargein_server.agent import Output, Turn
from bargein_server.streams import Push, from_callbacks

FIRST_REPORT = 100
ROWS_PER_PUSH = 5000
MAX_VALUES = 5_000_000
MAX_GROUPS = 50

log: logging.Logger = logging.getLogger("bargein.examples")

Key = tuple[str, str]
"""A column and a group."""


class Question(NamedTuple):
    """Columns that are asked for, and the column whose values form the groups.

    Args:
        columns: Names of columns; empty for all that hold numbers.
        by: Name of a column; empty for one group.
    """

    columns: list[str]
    by: str

    @classmethod
    def read(cls, text: str, header: list[str]) -> Question:
        """Find the names of columns in a text."""
        words = [word.lower() for word in re.findall(r"[\w.-]+", text)]
        after = words[words.index("by") + 1 :] if "by" in words else []
        by = next((name for word in after for name in header if name.lower() == word), "")
        return cls([name for name in header if name.lower() in words and name != by], by)


class Figures:
    """Running figures of one column in one group, by Welford's method."""

    def __init__(self) -> None:
        self.values: array[float] = array("d")
        self.mean: float = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.values.append(value)
        delta = value - self.mean
        self.mean += delta / len(self.values)
        self._squares += delta * (value - self.mean)

    def row(self) -> dict[str, float]:
        """Return the figures; the quantiles are exact."""
        values, count = sorted(self.values), len(self.values)
        spread = sqrt(self._squares / (count - 1)) if count > 1 else 0.0
        row = {"mean": self.mean, "deviation": spread, "median": values[(count - 1) // 2],
               "p99": values[-(count // 100) - 1], "min": values[0], "max": values[-1]}  # fmt: skip
        return {"count": count} | {name: float(f"{value:.4g}") for name, value in row.items()}


class Report(NamedTuple):
    """Figures of the rows so far; none when only their number is reported."""

    rows: int
    figures: dict[Key, dict[str, float]]
    final: bool = False


class BadTable(Exception):
    """The table cannot be analyzed; the text is for the user."""


def compute(file: TextIO, text: str, push: Push[Report]) -> None:
    """Read a table in a thread and push reports; `StreamClosed` ends it."""
    with file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        question = Question.read(text, header)
        wanted = [(index, name) for index, name in enumerate(header)
                  if name != question.by and (not question.columns or name in question.columns)]  # fmt: skip
        by = header.index(question.by) if question.by else None
        figures: dict[Key, Figures] = {}
        rows, due, values = 0, FIRST_REPORT, 0
        for rows, row in enumerate(reader, 1):
            group = "" if by is None or by >= len(row) else row[by].strip()
            for index, name in wanted:
                if (number := _number(row, index)) is not None:
                    figures.setdefault((name, group), Figures()).add(number)
                    values += 1
            if values > MAX_VALUES or len(figures) > MAX_GROUPS * max(1, len(wanted)):
                raise BadTable("The table is too large, or has too many groups.")
            if rows == due:
                due *= 2
                push(Report(rows, {key: found.row() for key, found in figures.items()}))
            elif rows % ROWS_PER_PUSH == 0:
                push(Report(rows, {}))
        push(Report(rows, {key: found.row() for key, found in figures.items()}, final=True))


def _number(row: list[str], index: int) -> float | None:
    try:
        number = float(row[index])
    except (ValueError, IndexError):
        return None
    return number if isfinite(number) else None


def table_of(turn: Turn) -> tuple[str, Callable[[], TextIO], str]:
    """Return the question, a function to open the table, and its name."""
    question, _, pasted = turn.text.partition("\n")
    sent = (turn.input.metadata or {}).get("csv")
    if isinstance(sent, str):
        return turn.text, lambda: io.StringIO(sent), "your table"
    if "," in pasted and "\n" in pasted.strip():
        return question, lambda: io.StringIO(pasted.strip()), "your table"
    path = Path(os.environ.get("ANALYSIS_CSV") or Path(__file__).with_name("interrupts.csv"))
    return turn.text, lambda: path.open(encoding="utf-8-sig", newline=""), path.name


async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Compute the figures that the input asks for."""
    question, open_table, name = table_of(turn)
    yield turn.status(f"Reading {name}", "eye")

    async def produce(push: Push[Report]) -> None:
        await turn.tools.run_in_thread(lambda: compute(open_table(), question, push))

    try:
        async with aclosing(from_callbacks(produce)) as reports:
            async for report in reports:
                yield turn.progress(report.rows, unit="rows", label=name)
                if report.figures or report.final:
                    yield turn.data("figures", rows_of(report))
                    yield table(report) if report.final else sentence(report)
    except BadTable as error:
        yield str(error)
    except (OSError, ValueError, csv.Error) as error:
        log.warning("the table %s cannot be read: %s", name, type(error).__name__)
        yield "I cannot read the table: it must be CSV in UTF-8, with names of columns in the first line."


def rows_of(report: Report) -> list[dict[str, Any]]:
    """Return the figures as JSON values."""
    return [{"column": column, "group": group, **row} for (column, group), row in report.figures.items()]


def sentence(report: Report) -> str:
    """Return the means so far."""
    means: dict[str, list[str]] = {}
    for (column, group), row in sorted(report.figures.items(), key=_order):
        means.setdefault(column, []).append(f"{row['mean']:,.4g}" + (f" ({group})" if group else ""))
    parts = [f"{column} {', '.join(values[:6])}" for column, values in means.items()]
    return f"Means after {report.rows:,} rows: {'; '.join(parts[:6])}.\n\n"


def table(report: Report) -> str:
    """Return the final figures as a Markdown table."""
    if not report.figures:
        return f"There are no numbers in these columns ({report.rows:,} rows)."
    names = list(next(iter(report.figures.values())))
    lines = [["column", "group", *names], ["---"] * 2 + ["--:"] * len(names)]
    for (column, group), row in sorted(report.figures.items(), key=_order):
        lines.append([column, group or "all", *(f"{row[name]:,.10g}" for name in names)])
    rows = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"All {report.rows:,} rows:\n\n{rows}\n"


def _order(item: tuple[Key, object]) -> tuple[str, float, str]:
    (column, group), _ = item
    number = _number([group], 0)
    return column, float("inf") if number is None else number, group
