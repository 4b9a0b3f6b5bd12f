"""Imports go only downwards, between rooms and between files, and files stay small.

    cli → launcher → serving, app → endpoints → cluster → transport → hosting → core → settings → protocol
                                guard, stores, telemetry ┘     ↑
    examples → agents, voice, streams → agent ─────────────────┘   nothing imports agents but app and cli
    client → protocol, never server

Imports are read from the source, those inside functions and behind `TYPE_CHECKING` too: an arrow that
only a type checker follows is an arrow still.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "bargein_protocol": ROOT / "protocol" / "bargein_protocol",
    "bargein_server": ROOT / "server" / "bargein_server",
    "bargein_client": ROOT / "clients" / "python" / "bargein_client",
}

_under_core = {"settings", "protocol"}
_under_hosting = {"voice", "agent", "turn_host", "core", "guard", "stores", "telemetry"} | _under_core
_under_transport = {"hosting"} | _under_hosting
_under_cluster = {"transport"} | _under_transport
_under_app = {
    "page_configuration",
    "endpoints",
    "agents",
    "voice",
    "cluster",
    "transport",
    "hosting",
} | _under_hosting

ALLOWED: dict[str, set[str]] = {
    "protocol": set(),
    "settings": {"protocol"},
    "page_configuration": set(),
    "settings_reader": {"settings"},
    "core": _under_core,
    "turn_host": {"core"} | _under_core,
    "agent": {"turn_host", "core"} | _under_core,
    "streams": {"agent", "protocol"},
    "agents": {"agent", "streams"} | _under_core,
    "voice": {"agent", "core", "streams"} | _under_core,
    "speech_models": {"agent", "agents", "voice"} | _under_core,
    "frameworks": {"agent", "agents"} | _under_core,
    "examples": {"agent", "agents", "frameworks", "streams"} | _under_core,
    "telemetry": {"core"} | _under_core,
    "guard": {"core", "telemetry"} | _under_core,
    "stores": {"core"} | _under_core,
    "hosting": _under_hosting,
    "transport": _under_transport,
    "cluster": _under_cluster,
    "endpoints": {"cluster", "page_configuration"} | _under_cluster,
    "serving": {"cluster"} | _under_cluster,
    "app": _under_app,
    "addresses": {"app"},
    "launcher": {"addresses", "app", "cluster", "serving"} | _under_app - {"agents"},
    "sessions_command": {"core", "stores"} | _under_core,
    "options": {"settings_reader", "telemetry"} | _under_core,
    "cli": {
        "addresses",
        "options",
        "launcher",
        "serving",
        "server",
        "examples",
        "sessions_command",
        "speech_models",
        "settings_reader",
    }
    | _under_app,
    "server": {"app", "endpoints", "page_configuration", "settings_reader", "launcher", "serving"}
    | _under_cluster,
    "client": {"protocol"},
}
"""What each room may import, beside itself and what is installed. `server` is the package's own front."""

PURE = {"protocol", "settings", "core"}
"""Rooms without I/O, clock or randomness: they import the standard library's harmless part and msgspec."""

IMPURE = {
    "asyncio", "concurrent", "contextvars", "datetime", "http", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "threading",
    "time", "urllib", "uuid",
}  # fmt: skip

ONLY_IN = {
    "openai": {"agents"},
    "xllamacpp": {"agents"},
    "ctranslate2": {"voice"},
    "onnxruntime": {"voice"},
    "piper": {"voice"},
    "samplerate": {"voice"},
    "tokenizers": {"voice"},
    "agents": {"frameworks"},
    "langchain_core": {"examples", "frameworks"},
    "langgraph": {"frameworks"},
    "pydantic_ai": {"agents", "frameworks"},
    "starlette": {"app", "cluster", "endpoints", "transport", "serving"},
    "prometheus_client": {"telemetry"},
    "opentelemetry": {"telemetry"},
}
"""Rooms that may import a library whose use is kept in one place."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
"""Lines of code and comments; a docstring does not count."""
MAX_ROOM_FILES = 28


def room_of(module: str) -> str | None:
    """Return the room that a module is in, None for a module that is not ours."""
    package, _, rest = module.partition(".")
    if package not in PACKAGES:
        return None
    if package != "bargein_server":
        return package.removeprefix("bargein_")
    first = rest.partition(".")[0].replace("__main__", "cli")
    return first if first in ALLOWED.keys() - {"protocol", "server", "client"} else "server"


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield the full name of everything that a module's source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def wrong_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return the imports of a module that no arrow allows."""
    room = room_of(module)
    assert room is not None
    wrong = []
    for name in imported(source, module, is_package=is_package):
        top = name.partition(".")[0]
        target = room_of(name)
        if target is not None:
            legal = target == room or target in ALLOWED[room]
        elif room in PURE:
            legal = top == "msgspec" or (top in sys.stdlib_module_names and top not in IMPURE)
        else:
            legal = room in ONLY_IN.get(top, {room})
        if not legal:
            wrong.append(name)
    return wrong


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module that there is, with its file."""
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def file_imports() -> dict[str, set[str]]:
    """Return the modules of ours that each module imports."""
    files = dict(modules())
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        names = imported(file.read_text("utf-8"), module, is_package=file.name == "__init__.py")
        found = {name if name in files else name.rpartition(".")[0] for name in names}
        graph[module] = found & files.keys() - {module}
    return graph


def circle(graph: dict[str, set[str]]) -> set[str]:
    """Return the nodes that no order of the graph can place, empty when there is no circle."""
    left = {node: set(below) for node, below in graph.items()}
    while bottom := {node for node, below in left.items() if not below & left.keys()}:
        left = {node: below for node, below in left.items() if node not in bottom}
    return set(left)


def long_functions(source: str) -> list[str]:
    """Return the functions of a source that are too long."""
    long = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first, last = node.body[0], node.end_lineno or node.lineno
            lines = last - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                long.append(node.name)
    return long


@pytest.mark.parametrize(("module", "file"), [pytest.param(*found, id=found[0]) for found in modules()])
def test_imports_go_downwards(module: str, file: Path) -> None:
    """A module imports what an arrow of the table allows, and nothing else."""
    assert wrong_imports(file.read_text("utf-8"), module, is_package=file.name == "__init__.py") == []


def test_every_room_is_in_the_table() -> None:
    """A new file or folder of the server gets its arrows when it is made."""
    folder = PACKAGES["bargein_server"]
    names = {file.relative_to(folder).parts[0].removesuffix(".py") for file in folder.rglob("*.py")}
    assert names - {"__init__", "__main__"} <= set(ALLOWED)


def test_the_table_has_no_circle() -> None:
    """The rooms can be put in an order in which every arrow goes down."""
    assert circle(ALLOWED) == set()


def test_files_import_each_other_in_one_direction() -> None:
    """The files of all packages can be put in such an order too, type-checking imports included."""
    graph = file_imports()
    assert graph["bargein_server.core.session"] >= {"bargein_server.core.sequencer"}
    assert circle(graph) == set()


def test_a_circle_goes_red() -> None:
    """The test above finds the members of a circle, and every file above them."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}


@pytest.mark.parametrize("file", [pytest.param(file, id=module) for module, file in modules()])
def test_files_and_functions_are_short(file: Path) -> None:
    """A file is read at one sitting, a function on one screen."""
    source = file.read_text("utf-8")
    assert source.count("\n") <= MAX_FILE_LINES
    assert long_functions(source) == []


def test_a_long_function_goes_red() -> None:
    """A docstring does not count; code and comments do."""
    body = "    pass\n" * (MAX_FUNCTION_LINES - 1)
    assert long_functions(f"def f():\n    '''Do\n    it.'''\n{body}") == []
    assert long_functions(f"async def f():\n    # why\n{body}") == ["f"]


def test_a_room_has_few_files() -> None:
    """A concept is found by its file, a file holds a whole concept, and a room is seen at a glance."""
    folders = Counter(file.parent for file in PACKAGES["bargein_server"].rglob("*.py"))
    assert {folder.name: files for folder, files in folders.items() if files > MAX_ROOM_FILES} == {}


def test_nothing_imports_agents_but_app_and_cli() -> None:
    """The server runs without any of them."""
    importers = {room for room, below in ALLOWED.items() if "agents" in below}
    assert importers == {"app", "cli", "examples", "frameworks", "speech_models"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bargein_protocol.codec", "import asyncio"),
        ("bargein_protocol.codec", "from time import monotonic"),
        ("bargein_protocol.codec", "import os.path"),
        ("bargein_protocol.codec", "import websockets"),
        ("bargein_protocol.codec", "from bargein_server import Turn"),
        ("bargein_server.core.session", "import asyncio"),
        ("bargein_server.core.session", "def f():\n    from random import choice"),
        ("bargein_server.core.session", "import collections, socket"),
        ("bargein_server.core.session", "from ..hosting.runner import Runner"),
        ("bargein_server.core.session", "from .. import hosting"),
        ("bargein_server.core.session", "from bargein_server.agent import Turn"),
        ("bargein_server.core.session", "if TYPE_CHECKING:\n    from ..agent import Turn"),
        ("bargein_server.core.session", "import starlette"),
        ("bargein_server.hosting.runner", "from ..agents import demo"),
        ("bargein_server.hosting.runner", "from ..endpoints.websocket import serve"),
        ("bargein_server.hosting.runner", "import openai"),
        ("bargein_server.endpoints.http", "from ..app import create_app"),
        ("bargein_server.agent", "from .hosting.runner import Runner"),
        ("bargein_server.examples.demo", "from bargein_server import Turn"),
        ("bargein_client.session", "import bargein_server"),
        ("bargein_client.session", "from bargein_server.core import session"),
    ],
)
def test_a_wrong_import_goes_red(module: str, source: str) -> None:
    """The test above finds an import that goes up or sideways, wherever it hides."""
    assert wrong_imports(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "bargein_protocol.codec",
            "import msgspec\nfrom array import array\nfrom .types import Seq\nfrom . import errors",
        ),
        (
            "bargein_server.core.session",
            "from bargein_protocol import Seq\nfrom .turns import Turn\nfrom ..settings import S",
        ),
        (
            "bargein_server.hosting.runner",
            "import asyncio\nfrom ..agent import Turn\nfrom ..core.session import Session",
        ),
        ("bargein_server.agents.tools", "from ..agent import Turn\nimport random, openai"),
        ("bargein_server.app", "from .agents import demo\nimport starlette.routing"),
        (
            "bargein_client.session",
            "import websockets\nfrom bargein_protocol import JSON\nfrom .core import Core",
        ),
    ],
)
def test_a_right_import_stays_green(module: str, source: str) -> None:
    """An import that goes down has no fault."""
    assert wrong_imports(source, module) == []


def test_a_package_imports_from_itself() -> None:
    """In a package's own file one dot is the package."""
    assert list(imported("from .app import create_app", "bargein_server", is_package=True)) == [
        "bargein_server.app.create_app"
    ]
    assert list(imported("from .app import create_app", "bargein_server.cli")) == [
        "bargein_server.app.create_app"
    ]
