"""Command line of `bargein`: arguments, exit codes and error messages."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bargein_protocol import __version__, errors

from ..channel import NOT_FOUND, is_loopback
from ..errors import AccessDenied, BargeinError, ConnectError
from ..sse_channel import is_available
from ..transports import NOT_A_URL, SESSION_PATH, session_url
from .batch import run_batch
from .consent import Policy
from .conversation import SESSION_TOKEN, Choice, print_conversations
from .oneshot import send_once
from .screen import PlainScreen
from .talk import TalkFailed, talk
from .terminal import moves_cursor, one_line

DEFAULT_URL = "localhost:8000"
INSTALL = 'pip install "bargein[cli]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    The code is 0, 1 for a failure, 3 for a refused tool, or 130 for an interrupt.

    Wrong arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.token = _utf8(options.token or os.environ.get("BARGEIN_TOKEN") or "") or None
    except argparse.ArgumentTypeError as error:
        parser.error(f"the variable BARGEIN_TOKEN: {error}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot show is replaced instead of raising an error.
            stream.reconfigure(errors="replace")
    try:
        return asyncio.run(_command(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BrokenPipeError:
        # The reader has gone; without this the interpreter reports an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MissingExtra, TalkFailed) as missing:
        return _fail(str(missing))
    except BargeinError as error:
        return _fail(str(error), _hint(error, options.url))


class MissingExtra(Exception):  # named like the package's errors, without a suffix
    """An optional dependency is not installed; the message has the remedy."""


def _command(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    url = session_url(options.url)
    token: str | None = options.token
    policy: Policy | None = getattr(options, "policy", None)
    if token is not None and urlsplit(url).scheme == "ws" and not is_loopback(url):
        _warn(f"the token goes to {urlsplit(url).hostname} without encryption; wss:// encrypts it")
    if options.command == "batch":
        if not is_available():
            raise MissingExtra(f"batch needs httpx2: {INSTALL}")
        return run_batch(
            url, options.file, token=token, concurrency=options.concurrency, policy=policy or "refuse"
        )
    choice = _choice(options)
    if options.command == "sessions":
        return print_conversations(url, token, as_json=options.json)
    if options.command == "send":
        asks = sys.stdin.isatty() and sys.stderr.isatty()
        policy = policy or ("ask" if asks else "refuse")
        return send_once(
            url,
            options.text,
            token=token,
            as_json=options.json,
            policy=policy,
            files=options.attach,
            choice=choice,
        )
    if options.command == "talk":
        return talk(url, token, PlainScreen(), options.file, options.out)
    if sys.stdin.isatty() and moves_cursor(sys.stdout) and not options.json:
        try:
            from .live_screen import chat_live
        except ModuleNotFoundError as missing:
            package = (missing.name or "").partition(".")[0]
            if package not in ("prompt_toolkit", "rich", "markdown_it"):
                raise
            raise MissingExtra(f"chat needs {package}: {INSTALL}") from None
        return chat_live(url, token, policy=policy, choice=choice)
    from .chat_lines import chat_lines

    return chat_lines(url, token, policy=policy, as_json=options.json, choice=choice)


def _choice(options: argparse.Namespace) -> Choice:
    return Choice(
        session_id=getattr(options, "session", None),
        session_token=os.environ.get(SESSION_TOKEN) or None,
        keep=getattr(options, "keep", False),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bargein", description="Talk to an agent that can be interrupted.")
    parser.add_argument("--version", action="version", version=f"bargein {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    chat = commands.add_parser(
        "chat",
        help="start a conversation; Enter or Ctrl-C interrupts an answer",
        description="Start a conversation with an agent. During an answer, Enter interrupts it with your "
        "next message, and Ctrl-C stops it. Ctrl-C twice within two seconds leaves. Lines from a pipe are "
        "answered one by one. A tool that needs consent is asked about at a terminal and refused elsewhere.",
    )
    send = _send_parser(commands)
    batch = commands.add_parser(
        "batch",
        help="send the lines of a file and print the answers",
        description="Send the inputs of a file, several at a time. A line of the file is a message, or a "
        "JSON object with `text`, `id`, `metadata` and `attachments`. Standard output gets a line of JSON "
        "for each input, in order. Tools that need consent are refused unless --yes is given. Exit code 0: "
        "all completed, 1: some failed, 3: all completed, but tools were refused.",
    )
    talking = _talk_parser(commands)
    listing = _listing_parser(commands)
    for command in (chat, send):
        command.add_argument("--json", action="store_true", help="print every event as a line of JSON")
        command.add_argument(
            "--session", type=_utf8, metavar="ID",
            help="go on with a conversation, wherever it began; it stays on the server",
        )  # fmt: skip
        command.add_argument(
            "--keep", action="store_true", help="leave the conversation on the server, and print the way back"
        )
    for command in (chat, send, batch, listing):
        command.add_argument("--token", type=_utf8, help="a credential; the variable BARGEIN_TOKEN is safer")
        if command is not listing:
            _add_consent(command)
    batch.add_argument("file", type=_utf8, help="file with the inputs; - for standard input")
    batch.add_argument(
        "--concurrency", type=_positive, help="number of inputs at a time (default: the server's limit)"
    )
    for command in (chat, batch, talking, listing):
        command.add_argument(
            "url", nargs="?", type=_utf8, default=DEFAULT_URL,
            help=f"the server (default: {DEFAULT_URL})",
        )  # fmt: skip
    return parser


def _send_parser(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "send",
        help="send one message and print the answer",
        description="Send one message. The answer goes to standard output, everything else to standard "
        "error. A tool that needs consent is asked about at a terminal and refused elsewhere. Exit code 0: "
        "completed, 1: failed, 3: completed, but a tool was refused because there was no terminal to ask, "
        "130: interrupted.",
    )
    parser.add_argument(
        "--attach", type=_utf8, action="append", default=[], metavar="FILE",
        help="a file for the agent, such as an image; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "url", type=_utf8, help="the server, such as localhost:8000 or wss://chat.example.com"
    )
    parser.add_argument("text", type=_utf8, help="the message; - for standard input")
    return parser  # type: ignore[no-any-return]


def _add_consent(command: argparse.ArgumentParser) -> None:
    answer = command.add_mutually_exclusive_group()
    for word, help_text in (("yes", "allow"), ("no", "deny")):
        answer.add_argument(
            f"--{word}", dest="policy", action="store_const", const=word,
            help=f"{help_text} every tool call that needs consent",
        )  # fmt: skip


def _listing_parser(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "sessions",
        help="list your conversations on a server",
        description="List your conversations on a server that stores them, the last used first: the id, the "
        "time of the last use, the number of turns, the title. It needs a credential.",
    )
    parser.add_argument("--json", action="store_true", help="print each as a line of JSON")
    return parser  # type: ignore[no-any-return]


def _talk_parser(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "talk",
        help="talk to an agent that listens, with microphone and loudspeaker",
        description="Talk to an agent. Speak to interrupt it; Ctrl-C stops an answer, and leaves when there "
        "is none. Use headphones: a terminal has no echo cancellation. With --file and --out it needs no "
        "sound of the machine, and ends after the answer to the file.",
    )
    parser.add_argument("--token", type=_utf8, help="a credential; the variable BARGEIN_TOKEN is safer")
    parser.add_argument("--file", type=Path, help="WAV file in place of the microphone")
    parser.add_argument("--out", type=Path, help="WAV file for what the loudspeaker would play")
    return parser  # type: ignore[no-any-return]


def _utf8(given: str) -> str:
    """Return a UTF-8 argument; other bytes arrive as lone surrogates."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("expected UTF-8") from None
    return given


def _positive(given: str) -> int:
    """Return a whole number of at least 1 that the wire can hold."""
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and int(given) >= 1):
        raise argparse.ArgumentTypeError("expected a whole number of at least 1")
    return int(given)


# Reasons of a failed connection other than a server that is not running.
_OTHER_CAUSES = re.compile("proxy|TLS|certificate", re.IGNORECASE)


def _hint(error: BargeinError, given: str) -> str | None:
    if isinstance(error, ConnectError):
        # Servers refuse a WebSocket on a path without a route with 403, as they do a user.
        wrong_path = error.status == 403 and not urlsplit(error.url).path.endswith(SESSION_PATH)
        if error.status == NOT_FOUND or wrong_path:
            return f"the usual path is {SESSION_PATH}, behind the path of a mounted application"
        if error.status in (401, 403) or error.code in (errors.UNAUTHORIZED, errors.FORBIDDEN):
            return "give a credential with --token or in the variable BARGEIN_TOKEN"
        if error.code is not None:
            return None  # a server answered, and said why
        if given == "-" or any(char.isspace() for char in given):  # a text, where the server is expected
            return "the server comes first, such as: bargein send localhost:8000 hello"
        if "://" not in given and urlsplit(error.url).scheme == "wss" and error.status is None:
            host = urlsplit(error.url).netloc
            return f"without a scheme wss:// is taken; for a server without TLS give ws://{host}"
        if error.status is None and error.why != NOT_A_URL and not _OTHER_CAUSES.search(error.why):
            return "is the server running? start one with: bargein-server"
    if isinstance(error, AccessDenied):
        return "give a credential with --token or in the variable BARGEIN_TOKEN"
    return None


def _warn(text: str) -> None:
    with suppress(BrokenPipeError):
        print(f"bargein: {one_line(text)}", file=sys.stderr)


def _fail(why: str, hint: str | None = None) -> int:
    _warn(why)
    if hint is not None:
        with suppress(BrokenPipeError):
            print(f"  {hint}", file=sys.stderr)
    return 1
