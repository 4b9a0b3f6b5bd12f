"""Table of the voice figures of the benchmark page, with their aims."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Parts = dict[str, dict[str, list[float]]]
"""Figures by part of the measurement, then by name."""
Found = dict[str, float]
"""Figures of rows, by title."""


class Row(NamedTuple):
    """A row of the table.

    Args:
        title: The figure, with its unit.
        part: Part of the measurement.
        figure: Name of the figure in it; `*` for all.
        quantile: The quantile, in percent; `sum` in place of one.
        aim: The upper bound; None without an aim.
    """

    title: str
    part: str
    figure: str
    quantile: int | str
    aim: float | None = None


ONSET, FIRST = "onset → last sound out", "end of speech → first sound"
FROM_FAINT = "end of the last faint sound → first sound"
ROWS = (
    Row("onset of speech → silence at the loudspeaker, p50, ms", "barge-in", ONSET, 50, 100),
    Row("the same, p90, ms", "barge-in", ONSET, 90, 150),
    Row("the same over 8 kHz μ-law, p90, ms", "mulaw", ONSET, 90, 200),
    Row("onset → `turn.ended`, the words are known, p50, ms", "barge-in", "onset → turn.ended", 50),
    Row("interrupts that were missed", "barge-in", "barge-in missed", "sum", 0),
    Row("heard after an interrupt: largest error, ms", "barge-in", "heard: error", 100, 20),
    Row("heard after an interrupt: largest error in words", "barge-in", "heard: words wrong", 100, 0),
    Row("end of speech → first sound of the answer, p50, ms", "answers", FIRST, 50, 600),
    Row("the same with the turn judge, p50, ms", "judge", FIRST, 50, 450),
    Row("last sound within 35 dB of the loudest → first sound, p50, ms", "answers", FROM_FAINT, 50, 600),
    Row("from that sound with the turn judge, p50, ms", "judge", FROM_FAINT, 50, 450),
    Row("coughs, hums, okay, yeah: longest hold, ms", "backchannels", "held → resumed", 100, 500),
    Row("of 14 of them, those that ended the turn", "backchannels", "ended the turn", "sum", 0),
    Row("sound that was lost by them, ms", "backchannels", "samples lost (ms)", "sum", 0),
    Row("false starts in a minute of each of nine noises at -30 dBFS, sum", "noise", "*", "sum", 0),
    Row("100 sessions that all speak: decision, p99, ms", "100 listeners", "decision", 99, 20),
    Row("the same: share of a core, %", "100 listeners", "share of a core", 50, 100),
    Row("text sessions beside 20 listeners: interrupt → end, p99, ratio", "text", "ratio of p99", 50, 1.2),
    Row("word errors on recorded speech, %", "words", "clean: errors, %", 50),
    Row("word errors in pink noise 10 dB below the speech, %", "words", "pink noise, 10 dB: errors, %", 50),
    Row("word errors by telephone, %", "words", "telephone: errors, %", 50),
)


def figures_of(parts: Parts) -> Found:
    """Return the figures of the measured rows, by title."""
    return {row.title: round(found, 2) for row in ROWS if (found := _figure(row, parts)) is not None}


def _figure(row: Row, parts: Parts) -> float | None:
    figures = parts.get(row.part)
    if figures is None:
        return None
    names = list(figures) if row.figure == "*" else [row.figure]
    values = [value for name in names for value in figures.get(name, [])]
    if row.quantile == "sum":
        return float(sum(values))
    return float(np.percentile(values, int(row.quantile))) if values else None


def table(found: Found) -> list[str]:
    """Return the table in Markdown; figures that reach their aim are bold."""
    lines = ["| figure | measured | aim |", "|---|---|---|"]
    for row in ROWS:
        measured = found.get(row.title)
        if measured is None:
            continue
        text = f"{measured:,.0f}" if measured >= 10 or measured == int(measured) else f"{measured:.2g}"
        aim = "" if row.aim is None else f"≤ {row.aim:g}" if row.aim else "0"
        reached = row.aim is not None and measured <= row.aim
        lines.append(f"| {row.title} | {f'**{text}**' if reached else text} | {aim} |")
    return lines


def merged(old: dict[str, Any], new: Parts) -> dict[str, Any]:
    """Return earlier figures, with the parts that this run has measured anew."""
    return {**old, **new}
