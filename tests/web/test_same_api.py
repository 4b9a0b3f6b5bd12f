"""One API in two languages: the public names of both clients correspond.

`snake_case` in Python is `camelCase` in JavaScript, and a duration in seconds (`_s`) is one in milliseconds
(`Ms`). A name that only one language has is listed here with its reason.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

import bargein_client
from bargein_client import ClientSession, ClientTurn, ConnectionState, Delivery, connect, errors
from bargein_client.connection_state import StateName
from bargein_client.delivery import Signal
from bargein_client.events import LocalEvent

CLIENTS = Path(__file__).parents[2] / "clients"
LIBRARY = CLIENTS / "web" / "bargein"

ONLY_PYTHON = {
    "session": {
        "events",  # JavaScript has listeners: `on`
        "history",  # its listeners get the turns of a replay
    },
    "connect": {
        "backoff", "bounds", "codec",  # not configurable in JavaScript; JSON is the fast codec of browsers
        "headers",  # browsers set no headers on a WebSocket; they use `ticket`
    },
    "state": set(),
    "errors": {"ChannelClosed"},  # internal
    "attributes": {"ConnectError.status"},  # browsers hide the status of a refused handshake
    "events": {"client.reconnecting"},  # a `state` event in JavaScript
}  # fmt: skip
ONLY_JAVASCRIPT = {
    "session": {
        "on",  # listeners are JavaScript's idiom
        "reconnect",  # for a button beside the page's countdown
    },
    "turn": {"on"},
    "connect": {"WebSocket", "onEvent", "onSession", "ticket"},
}


def camel(name: str) -> str:
    """Return the JavaScript form of a Python name."""
    first, *rest = re.sub("_s$", "_ms", name).split("_")
    return first + "".join(part.capitalize() for part in rest)


def members(kind: type) -> set[str]:
    """Return the public members of a Python class."""
    return {name for name in vars(kind) if not name.startswith("_")}


def keywords(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def source(name: str) -> str:
    """Return the source of a module of the JavaScript client."""
    return (LIBRARY / name).read_text("utf-8")


def fields(interface: str) -> set[str]:
    """Return the fields of an interface in `types.d.ts`."""
    found = re.search(rf"export interface {interface} \{{(.*?)\n\}}", source("types.d.ts"), re.DOTALL)
    assert found is not None, interface
    return set(re.findall(r"^  (\w+)\??:", found[1], re.MULTILINE))


def same(python: Iterable[str], javascript: Iterable[str], group: str = "") -> None:
    """Check that the names correspond, but for the listed exceptions."""
    expected = {camel(name) for name in set(python) - ONLY_PYTHON.get(group, set())}
    assert expected == set(javascript) - ONLY_JAVASCRIPT.get(group, set())


@pytest.fixture(scope="module")
def library() -> dict[str, list[str]]:
    """Exports and public members, from the JavaScript library itself."""
    program = f"""
        const library = await import({json.dumps((LIBRARY / "index.js").as_uri())});
        const names = (kind) => Object.getOwnPropertyNames(kind.prototype);
        const isPublic = (name) => name !== "constructor" && !name.startsWith("_");
        console.log(JSON.stringify({{
            exports: Object.keys(library),
            session: names(library.ClientSession).filter(isPublic),
            turn: names(library.ClientTurn).filter(isPublic),
        }}));
    """

    async def run() -> dict[str, list[str]]:
        process = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", program, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        found: dict[str, list[str]] = json.loads(output)
        return found

    return asyncio.run(run())


def test_sessions_have_the_same_members(library: dict[str, list[str]]) -> None:
    """`ClientSession` in both languages."""
    same(members(ClientSession), library["session"], "session")


def test_turns_have_the_same_members(library: dict[str, list[str]]) -> None:
    """`ClientTurn` in both languages."""
    same(members(ClientTurn), library["turn"], "turn")


def test_connect_takes_the_same_options() -> None:
    """Keyword arguments in Python, properties of an object in JavaScript."""
    declared = re.search(r"@typedef \{object\} ConnectOptions(.*?)\*/", source("index.js"), re.DOTALL)
    assert declared is not None
    same(keywords(connect), re.findall(r"@property \{.*\} \[(\w+)\]", declared[1]), "connect")


@pytest.mark.parametrize(
    ("method", "interface"),
    [
        (ClientSession.send, "SendOptions"),
        (ClientSession.interrupt, "InterruptOptions"),
        (ClientSession.send_tool_output, "ToolOutputOptions"),
        (ClientSession.send_tool_decision, "ToolDecisionOptions"),
        (ClientTurn.interrupt, "InterruptOptions"),
        (ClientTurn.report_playback, "PlaybackReport"),
    ],
)
def test_methods_take_the_same_options(method: Callable[..., Any], interface: str) -> None:
    """The same names, by keyword in Python and in one object in JavaScript."""
    same(keywords(method), fields(interface))


def test_the_state_of_the_connection_has_the_same_fields() -> None:
    """The same names of states, and the same fields over all of them."""
    declared = re.search(r"export type ConnectionState =(.*?);\n\n", source("types.d.ts"), re.DOTALL)
    assert declared is not None
    same({field.name for field in dataclasses.fields(ConnectionState)}, re.findall(r"(\w+):", declared[1]))
    assert set(get_args(StateName)) == set(re.findall(r'name: "(\w+)"', declared[1]))


def test_the_delivery_of_a_turn_has_the_same_states() -> None:
    """One enumeration and one table, in both languages."""
    text = source("delivery.js")
    for kind, name in ((Delivery, "Delivery"), (Signal, "Signal")):
        declared = re.search(rf"@typedef \{{(.*)\}} {name}$", text, re.MULTILINE)
        assert declared is not None
        assert {state.value for state in kind} == set(re.findall(r'"(\w+)"', declared[1]))


def test_errors_are_the_same(library: dict[str, list[str]]) -> None:
    """The same classes with the same bases and attributes."""
    python = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.BargeinError) and name not in ONLY_PYTHON["errors"]
    }
    declared = re.findall(
        r"^export class (\w+) extends (\w+) \{(.*?)\n?\}$", source("errors.js"), re.M | re.S
    )
    assert {name for name, _, _ in declared} == set(python)
    assert set(python) <= set(library["exports"])
    for name, base, body in declared:
        assert base == python[name].__mro__[1].__name__.replace("Exception", "Error")
        own = inspect.getsource(python[name])
        attributes = {
            attribute
            for attribute in re.findall(r"self\.(\w+) =", own)
            if f"{name}.{attribute}" not in ONLY_PYTHON["attributes"]
        }
        same(attributes, set(re.findall(r"this\.(\w+) =", body)) - {"name"})


def test_the_clients_add_the_same_events() -> None:
    """The types that begin with `client.`."""
    python = {kind.__struct_config__.tag for kind in get_args(LocalEvent)} - ONLY_PYTHON["events"]
    assert python == set(re.findall(r'type: "(client\.\w+)"', source("types.d.ts")))


@pytest.mark.parametrize(
    ("guide", "classes", "convert"),
    [
        ("python/docs/guide.md", (ClientSession, ClientTurn), str),
        ("web/docs/guide.md", (ClientSession, ClientTurn), camel),
    ],
)
def test_the_guides_show_every_name(
    guide: str, classes: tuple[type, ...], convert: Callable[[str], str], library: dict[str, list[str]]
) -> None:
    """Each guide shows every member and every error, as code."""
    text = (CLIENTS / guide).read_text("utf-8")
    only = set() if convert is str else ONLY_PYTHON["session"]
    names = {convert(name) for kind in classes for name in members(kind) - only}
    if convert is not str:
        names |= ONLY_JAVASCRIPT["session"]
    public = {name for name in bargein_client.__all__ if name in vars(errors) and name != "ServerViolation"}
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    assert [name for name in sorted(names | public) if not re.search(rf"\b{name}\b", code)] == []
