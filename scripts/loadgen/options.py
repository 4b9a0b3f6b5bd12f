"""Options of a load test."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from .figures import TIMES

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
COUNTS = ("errors", "stale", "failed")
DEFAULT_TEXTS = ("20 tokens at 50/s", "100 tokens at 50/s", "300 tokens at 50/s")


class Options(Struct, frozen=True, kw_only=True):
    """Options of one run; durations are seconds, shares are from 0 to 1.

    Args:
        url: URL of the sessions, `ws://` or `wss://`.
        sessions: Number of concurrent users.
        ramp_s: Time until the last user has connected.
        duration_s: Time for which they talk after that.
        turn_every_s: Average time between inputs of a user, independent of the server's speed.
        texts: Inputs, chosen with equal probability.
        barge_in: Share of turns that are interrupted.
        barge_in_s: Maximum time from an input to its interrupt, which comes at random.
        slow: Share of users who stop reading at times; their durations are not counted.
        slow_s: Duration of such a pause.
        drops: Share of turns during which the connection is lost and the session resumed.
        patience_s: Time after which an interrupted turn without an end counts as hanging.
        codec: `json` or `msgpack`.
        headers: Further headers of every handshake.
        seed: Seed of all randomness.
        pid: The server's process, when it runs on this machine.
        json: File for the figures.
        picture: File for the picture.
        limits: Upper limits by name, in milliseconds or as a count.
    """

    url: str
    sessions: int = 100
    ramp_s: float = 5.0
    duration_s: float = 30.0
    turn_every_s: float = 4.0
    texts: tuple[str, ...] = DEFAULT_TEXTS
    barge_in: float = 0.5
    barge_in_s: float = 2.0
    slow: float = 0.0
    slow_s: float = 1.0
    drops: float = 0.0
    patience_s: float = 10.0
    codec: str = "json"
    headers: dict[str, str] = {}
    seed: int = 1
    pid: int | None = None
    json: Path | None = None
    picture: Path | None = None
    limits: dict[str, float] = {}


_EPILOG = f"""\
limits: --max-errors N, --max-stale N, --max-failed N, and --max-TIME-QUANTILE-ms MS where TIME is one of
{", ".join(TIMES)} and QUANTILE one of {", ".join(QUANTILES)}.
When one is missed, or there is nothing to hold against it, the exit code is 1.

example: scripts/load_test.py ws://127.0.0.1:8000/v1/session --max-interrupt-p99-ms 50 --max-stale 0
"""


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Return the options of a command line; exit with 2 for a wrong one."""
    parser = argparse.ArgumentParser(
        description="Put a server under load and time it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_load(parser)
    add = parser.add_argument
    add("--pid", type=int, help="the server's process on this machine: its memory and processor time")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--picture", type=Path, metavar="FILE", help="draw the distribution of the times, as SVG")
    for name in limit_names():
        add(f"--max-{name}", type=_number, dest=f"limit {name}", help=argparse.SUPPRESS)
    values = vars(parser.parse_args(arguments))
    limits = {name: value for name in limit_names() if (value := values.pop(f"limit {name}")) is not None}
    headers = dict(values.pop("headers") or ())
    texts = tuple(values.pop("texts") or DEFAULT_TEXTS)
    return Options(limits=limits, headers=headers, texts=texts, **values)


def limit_names() -> list[str]:
    """Return the names of all figures with a limit."""
    return [*COUNTS, *(f"{time}-{quantile}-ms" for time in TIMES for quantile in QUANTILES)]


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", type=_url, help="ws://HOST:PORT/v1/session")
    add("--sessions", type=_positive, default=100, metavar="N", help="users at a time (%(default)s)")
    add("--ramp-s", type=_number, default=5.0, metavar="S", help="until all have come (%(default)s)")
    add("--duration-s", type=_number, default=30.0, metavar="S", help="after the ramp (%(default)s)")
    add(
        "--turn-every-s",
        type=_above_zero,
        default=4.0,
        metavar="S",
        help="average seconds between inputs of a user (%(default)s)",
    )
    add("--text", action="append", dest="texts", help=f"an input; may be repeated ({DEFAULT_TEXTS})")
    add(
        "--barge-in",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="turns that are interrupted (%(default)s)",
    )
    add(
        "--barge-in-s",
        type=_number,
        default=2.0,
        metavar="S",
        help="so long after the input at most (%(default)s)",
    )
    add("--slow", type=_share, default=0.0, metavar="SHARE", help="users who read slowly (%(default)s)")
    add("--slow-s", type=_above_zero, default=1.0, metavar="S", help="they stop for so long (%(default)s)")
    add("--drops", type=_share, default=0.0, metavar="SHARE", help="turns that lose their line (%(default)s)")
    add("--patience-s", type=_above_zero, default=10.0, metavar="S", help="then a turn hangs (%(default)s)")
    add("--codec", choices=("json", "msgpack"), default="json")
    add(
        "--header",
        action="append",
        type=_header,
        dest="headers",
        metavar="NAME:VALUE",
        help="of the handshake",
    )
    add("--seed", type=int, default=1, help="of all randomness (%(default)s)")


def _url(text: str) -> str:
    if not re.match(r"wss?://[^/]", text):
        raise argparse.ArgumentTypeError(f"expected ws:// or wss://, got {text!r}")
    return text


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def _above_zero(text: str) -> float:
    if _number(text) == 0:
        raise argparse.ArgumentTypeError("expected more than 0")
    return float(text)


def _share(text: str) -> float:
    if _number(text) > 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return float(text)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f"expected NAME:VALUE, got {text!r}")
    return name, value.strip()
