"""Distribution of the durations as SVG: duration by share of events."""

from __future__ import annotations

import math
from html import escape

from .figures import TIMES, Figures
from .histogram import Histogram

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 40, 110
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
COLOURS = {
    "first-token": "#0969da",
    "interrupt": "#cf222e",
    "gap": "#1a7f37",
    "resume": "#8250df",
    "connect": "#9a6700",
    "lag": "#6e7781",
}


def svg(figures: Figures, title: str) -> str:
    """Return a picture of all durations; both axes are logarithmic."""
    drawn = {name: figures.times[name] for name in COLOURS if figures.times[name].count}
    decades = _decades(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for decade in range(decades[0], decades[1] + 1):
        y = _y(10.0**decade, decades)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade * 1000:g} ms</text>'
        )
    for share in SHARES:
        x = _x(share)
        parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eaeef2"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{share * 100:g} %</text>'
        )
    for row, (name, times) in enumerate(drawn.items()):
        parts.append(_curve(times, COLOURS[name], decades))
        x, y = LEFT + row % 2 * 390, HEIGHT - BOTTOM + 46 + row // 2 * 20
        parts.append(f'<rect x="{x}" y="{y - 9}" width="22" height="4" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 30}" y="{y - 3}">{escape(TIMES[name])} ({times.count:,})</text>')
    return "\n".join([*parts, "</svg>\n"])


def _decades(drawn: dict[str, Histogram]) -> tuple[int, int]:
    """Return the powers of ten, in seconds, around all durations."""
    longest = max((times.max for times in drawn.values()), default=1.0)
    return -5, max(-4, math.ceil(math.log10(max(longest, 1e-5))))


def _curve(times: Histogram, colour: str, decades: tuple[int, int]) -> str:
    points, before = [], 0.0
    for share, seconds in times.steps():
        # Up at the share where the longer ones begin, then across to where they end.
        y = _y(seconds, decades)
        points += [f"{_x(before):.1f},{y:.1f}", f"{_x(share):.1f},{y:.1f}"]
        before = share
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>'


def _x(share: float) -> float:
    nines = min(4.0, -math.log10(max(1.0 - share, 1e-9)))
    return LEFT + nines / 4 * (WIDTH - LEFT - RIGHT)


def _y(seconds: float, decades: tuple[int, int]) -> float:
    low, high = decades
    height = (min(max(math.log10(max(seconds, 1e-9)), low), high) - low) / (high - low)
    return HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)
