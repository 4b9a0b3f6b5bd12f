"""The command `bargein`: talk to an agent from a terminal or from a script."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bargein_protocol import __version__

from .batch import run_batch
from .connection import NOT_A_URL, NOT_FOUND
from .errors import AccessDenied, BargeinError, ConnectError
from .event_stream import is_available
from .oneshot import send_once

DEFAULT_URL = "ws://localhost:8000/v1/session"
INSTALL = 'pip install "bargein[cli]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 130 when it was interrupted.

    It exits with 2 when it was called wrongly.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.token = _utf8(options.token or os.environ.get("BARGEIN_TOKEN") or "") or None
    except argparse.ArgumentTypeError as error:
        parser.error(f"the variable BARGEIN_TOKEN: {error}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a character shows another one rather than nothing.
            stream.reconfigure(errors="replace")
    try:
        return asyncio.run(_command(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BrokenPipeError:
        # The reader has left; without this the interpreter would complain at its own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MissingExtra as missing:
        return _fail(str(missing))
    except BargeinError as error:
        return _fail(str(error), _hint(error))


class MissingExtra(Exception):  # named after what happened, like the package's errors
    """Something optional is not installed; the message says how to get it."""


def socket_url(given: str) -> str:
    """Complete a URL as people type it: `localhost:8000` is enough.

    http becomes ws, https becomes wss, and an empty path becomes that of the session.

    Raises:
        ConnectError: It is no URL at all.
    """
    if "://" not in given:
        given = f"ws://{given}"
    try:
        parts = urlsplit(given)
    except ValueError:
        raise ConnectError(given, NOT_A_URL) from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = "/v1/session" if parts.path in ("", "/") else parts.path
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def _command(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    url = socket_url(options.url)
    token: str | None = options.token
    if options.command == "batch":
        if not is_available():
            raise MissingExtra(f"batch needs httpx2: {INSTALL}")
        return run_batch(url, options.file, token=token, concurrency=options.concurrency)
    if options.command == "send":
        return send_once(url, options.text, token=token, as_json=options.json)
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            from .live_screen import chat_live
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] != "prompt_toolkit":
                raise
            raise MissingExtra(f"chat needs prompt_toolkit: {INSTALL}") from None
        return chat_live(url, token)
    from .chat import chat_lines

    return chat_lines(url, token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bargein", description="Talk to an agent that can be interrupted.")
    parser.add_argument("--version", action="version", version=f"bargein {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    chat = commands.add_parser(
        "chat",
        help="talk; Enter or Ctrl-C while the agent speaks interrupts it",
        description="Talk to an agent. Enter while it speaks interrupts it with what you typed, Ctrl-C "
        "just stops it; Ctrl-C twice within two seconds leaves. Lines from a "
        "pipe are answered one by one.",
    )
    send = commands.add_parser(
        "send",
        help="ask once and print the answer",
        description="Ask once. The answer goes to standard output, everything else to standard error. "
        "Exit code 0: completed, 1: failed, 130: interrupted.",
    )
    send.add_argument("--json", action="store_true", help="print every event as a line of JSON")
    batch = commands.add_parser(
        "batch",
        help="answer the lines of a file",
        description="Answer the inputs of a file at the same time: a line is what is said, or a JSON "
        "object with `text`, `id` and `metadata`. Standard output gets a line of JSON for each, in order. "
        "Exit code 0: all completed, 1: some failed.",
    )
    for command in (chat, send, batch):
        command.add_argument(
            "--token", type=_utf8, help="a credential; better given in the variable BARGEIN_TOKEN"
        )
    batch.add_argument("file", type=_utf8, help="the inputs; - for standard input")
    batch.add_argument("--concurrency", type=int, help="how many at a time; as many as the server allows")
    for command in (chat, batch):
        command.add_argument(
            "url", nargs="?", type=_utf8, default=DEFAULT_URL,
            help=f"the server; {DEFAULT_URL} when left out",
        )  # fmt: skip
    send.add_argument("url", type=_utf8, help="the server, such as localhost:8000")
    send.add_argument("text", type=_utf8, help="what to say")
    return parser


def _utf8(given: str) -> str:
    """Take an argument; what the shell gave that is not UTF-8 comes as half a surrogate pair."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("expected UTF-8") from None
    return given


# What is wrong when it is not that no server runs there.
_SOMETHING_ELSE = re.compile("proxy|TLS|certificate", re.IGNORECASE)


def _hint(error: BargeinError) -> str | None:
    if isinstance(error, ConnectError):
        if error.status in (401, 403) or error.code is not None:
            return "give a credential with --token or in the variable BARGEIN_TOKEN"
        if error.status == NOT_FOUND:
            return f"it usually is {urlsplit(DEFAULT_URL).path}"
        if error.status is None and error.why != NOT_A_URL and not _SOMETHING_ELSE.search(error.why):
            return "is the server running? start one with: bargein-server"
    if isinstance(error, AccessDenied):
        return "give a credential with --token or in the variable BARGEIN_TOKEN"
    return None


def _fail(why: str, hint: str | None = None) -> int:
    with suppress(BrokenPipeError):
        print(f"bargein: {why}", file=sys.stderr)
        if hint is not None:
            print(f"  {hint}", file=sys.stderr)
    return 1
