"""The command `bargein-server sessions`: stored conversations of an agent.

It reads and deletes beside a server that uses the store.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bargein_protocol import SessionId

from .core.history import conversation
from .core.persistence import stored_turns
from .core.records import BadRecord
from .stores.interface import MAX_TITLE_CHARS, Store, StoredSession, StoreError, Summary, name_of
from .stores.sqlite import SqliteStore
from .stores.urls import BadStore, default_url, store_of


class NoConversation(ValueError):
    """No such conversation, or no store; the message has which."""


def main(arguments: Sequence[str], default_agent: str) -> int:
    """Run the command; return its exit status.

    Args:
        arguments: The arguments after `sessions`.
        default_agent: The agent whose store is used when none is named.
    """
    options = _parser(default_agent).parse_args(arguments)
    try:
        url = options.store or os.environ.get("BARGEIN_STORE") or default_url(options.agent, os.environ)
        store = store_of(url, exclusive=False)
        if store is None:
            raise NoConversation("the store is none: name another one with --store")
        if isinstance(store, SqliteStore) and not Path(store.path).is_file():
            raise NoConversation(f"there is no store {store}: name it with --store or --agent")
        asyncio.run(_run(store, options))
    except (BadStore, BadRecord, NoConversation, StoreError) as error:
        print(f"bargein-server sessions: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads the output, as behind `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(default_agent: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bargein-server sessions",
        description="List, show, export, name, delete stored conversations.",
    )
    parser.add_argument("--store", metavar="URL", help="the store (BARGEIN_STORE; default: the agent's file)")
    parser.add_argument(
        "--agent",
        default=default_agent,
        metavar="AGENT",
        help="the agent whose default store is used: module:agent or a built-in one (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list conversations, the last used first")
    listing.add_argument("--principal", help="only those of this client")
    listing.add_argument("--limit", type=int, default=50, help="maximum number (default: %(default)s)")
    commands.add_parser("show", help="print a conversation").add_argument("session_id")
    exporting = commands.add_parser("export", help="print a conversation as JSON or Markdown")
    exporting.add_argument("session_id")
    exporting.add_argument("--markdown", action="store_true", help="as Markdown, for people")
    naming = commands.add_parser("rename", help="name a conversation")
    naming.add_argument("session_id")
    naming.add_argument("title", help="the name; an empty one takes it away")
    commands.add_parser("delete", help="forget conversations for good").add_argument("session_id", nargs="+")
    return parser


async def _run(store: Store, options: argparse.Namespace) -> None:
    await store.open()
    try:
        if options.command == "list":
            every = options.principal is None
            for summary in await store.sessions(options.principal, every=every, limit=options.limit):
                print(_line(summary))
        elif options.command == "show":
            _show(await _read(store, options.session_id))
        elif options.command == "export":
            form = _markdown if options.markdown else _exported
            sys.stdout.buffer.write(form(await _read(store, options.session_id)) + b"\n")
        elif options.command == "rename":
            if not await store.rename(SessionId(options.session_id), name_of(options.title)):
                raise NoConversation(f"no such conversation: {options.session_id}")
        else:
            missing = [each for each in options.session_id if not await store.delete(SessionId(each))]
            if missing:
                raise NoConversation(f"no such conversation: {', '.join(missing)}")
    finally:
        await store.close()


async def _read(store: Store, session_id: str) -> StoredSession:
    found = await store.read(SessionId(session_id))
    if found is None:
        raise NoConversation(f"no such conversation: {session_id}")
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(text: str) -> str:
    """Return a text without signs that control a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _line(summary: Summary) -> str:
    title = _plain(summary.title).replace("\n", " ")[:60]
    owner = _plain(summary.principal) if summary.principal is not None else "-"
    return f"{summary.session_id}  {_time(summary.used_at)}  {owner}  {summary.turns} turns  {title}"


def _title(found: StoredSession) -> str:
    """Return a conversation's name, or the start of its first input."""
    turns = stored_turns(found.stored)
    return found.name or next((turn.input.text for turn in turns), "")[:MAX_TITLE_CHARS]


def _show(found: StoredSession) -> None:
    for message in conversation(stored_turns(found.stored)):
        for call in message.get("tool_calls", ()):
            print(
                f"tool call: {_plain(str(call['function']['name']))}({_plain(call['function']['arguments'])})"
            )
        if message.get("content"):
            print(f"{message['role']}: {_plain(str(message['content']))}")


def _exported(found: StoredSession) -> bytes:
    head = found.stored.head
    exported = {
        "session_id": head.session_id,
        "title": _title(found),
        "principal": head.principal,
        "created_at_ms": int(head.created_at * 1000),
        "used_at_ms": int(found.used_at * 1000),
        "metadata": head.metadata,
        "store": head.values,
        "messages": conversation(stored_turns(found.stored)),
    }
    return msgspec.json.format(msgspec.json.encode(exported))


def _markdown(found: StoredSession) -> bytes:
    """Return a conversation as the page exports it, without tool calls."""
    parts = [f"# {' '.join(_plain(_title(found)).split())}"]
    speaker = ""
    for message in conversation(stored_turns(found.stored)):
        role = {"user": "You", "assistant": "Agent"}.get(message["role"])
        if role is not None and message.get("content"):
            if role != speaker:
                parts.append(f"## {role}")
            parts.append(_plain(str(message["content"])))
            speaker = role
    return "\n\n".join(parts).encode()
