"""Options of one run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from .figures import TIMES

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
COUNTS = ("errors", "stale", "failed")
DEFAULT_TEXTS = ("20 tokens at 50/s", "100 tokens at 50/s", "300 tokens at 50/s")


class Options(Struct, frozen=True, kw_only=True):
    """One run. Durations are seconds, shares are from 0 to 1.

    Args:
        url: Where sessions are, `ws://` or `wss://`.
        sessions: How many users talk at a time.
        ramp_s: How long it takes until the last of them has come.
        duration_s: How long they talk after that.
        turn_every_s: A user speaks so often on average, whether the server keeps up or not.
        texts: What they say; each is as likely as the others.
        barge_in: The share of turns that are interrupted.
        barge_in_s: They are interrupted at random, this long after they were asked for at most.
        slow: The share of users who stop reading now and then; their times are not counted.
        slow_s: For how long.
        drops: The share of turns during which the line is lost and the session resumed.
        patience_s: A turn that was interrupted and has no end after this long hangs.
        codec: `json` or `msgpack`.
        headers: Further headers of every handshake.
        seed: Of all randomness.
        pid: The server's process, when it runs on this machine.
        json: Where the figures go.
        picture: Where the picture goes.
        limits: By name: the most that is good, in milliseconds, or as a count.
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

With --voice as an argument, callers speak: see --voice --help.

example: scripts/load_test.py ws://127.0.0.1:8000/v1/session --max-interrupt-p99-ms 50 --max-stale 0
"""


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Return the options of a command line; exits with 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description="Put a server under load and time it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_load(parser)
    add = parser.add_argument
    add("--pid", type=int, help="id of the server's process on this machine; adds its memory and CPU time")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--picture", type=Path, metavar="FILE", help="draw the distribution of the times, as SVG")
    for name in limit_names():
        add(f"--max-{name}", type=number, dest=f"limit {name}", help=argparse.SUPPRESS)
    values = vars(parser.parse_args(arguments))
    limits = {name: value for name in limit_names() if (value := values.pop(f"limit {name}")) is not None}
    headers = dict(values.pop("headers") or ())
    texts = tuple(values.pop("texts") or DEFAULT_TEXTS)
    return Options(limits=limits, headers=headers, texts=texts, **values)


def limit_names() -> list[str]:
    """Return the names of everything that can be limited."""
    return [*COUNTS, *(f"{time}-{quantile}-ms" for time in TIMES for quantile in QUANTILES)]


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument

    def measure(name: str, kind: Callable[[str], float], default: float, unit: str, text: str) -> None:
        add(name, type=kind, default=default, metavar=unit, help=f"{text} (%(default)s)")

    add("url", type=url, help="ws://HOST:PORT/v1/session")
    measure("--sessions", positive, 100, "N", "users at a time")
    measure("--ramp-s", number, 5.0, "S", "seconds until all users have arrived")
    measure("--duration-s", number, 30.0, "S", "seconds after the ramp")
    measure("--turn-every-s", above_zero, 4.0, "S", "seconds between the inputs of a user")
    add("--text", action="append", dest="texts", help=f"text of an input; may be repeated ({DEFAULT_TEXTS})")
    measure("--barge-in", share, 0.5, "SHARE", "share of interrupted turns")
    measure("--barge-in-s", number, 2.0, "S", "latest interrupt, in seconds after the input")
    measure("--slow", share, 0.0, "SHARE", "share of users who read slowly")
    measure("--slow-s", above_zero, 1.0, "S", "seconds for which they stop")
    measure("--drops", share, 0.0, "SHARE", "share of turns that lose the connection")
    measure("--patience-s", above_zero, 10.0, "S", "seconds after which a turn counts as hung")
    add("--codec", choices=("json", "msgpack"), default="json")
    words = "header of the handshake"
    add("--header", action="append", type=header, dest="headers", metavar="NAME:VALUE", help=words)
    add("--seed", type=int, default=1, help="seed of the random numbers (%(default)s)")


def url(text: str) -> str:
    """Return the address of a server, or raise ArgumentTypeError."""
    if not re.match(r"wss?://[^/]", text):
        raise argparse.ArgumentTypeError(f"expected ws:// or wss://, got {text!r}")
    return text


def number(text: str) -> float:
    """Return a number of 0 or more, or raise ArgumentTypeError."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def above_zero(text: str) -> float:
    """Return a number above 0, or raise ArgumentTypeError."""
    if number(text) == 0:
        raise argparse.ArgumentTypeError("expected more than 0")
    return float(text)


def share(text: str) -> float:
    """Return a share from 0 to 1, or raise ArgumentTypeError."""
    if number(text) > 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return float(text)


def positive(text: str) -> int:
    """Return a whole number of 1 or more, or raise ArgumentTypeError."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def header(text: str) -> tuple[str, str]:
    """Return the name and the value of a header, or raise ArgumentTypeError."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f"expected NAME:VALUE, got {text!r}")
    return name, value.strip()
