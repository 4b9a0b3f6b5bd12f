"""Index of Python's standard library: names, kinds and summaries.

Nothing of the library is imported or executed, apart from modules that are compiled into the interpreter.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from threading import Lock
from typing import NamedTuple

LEFT_OUT = frozenset(("antigravity", "idlelib", "lib2to3", "this", "turtledemo"))


class Entry(NamedTuple):
    """One public name.

    Args:
        name: Dotted name, such as `asyncio.wait_for`.
        kind: `module`, `class` or `function`.
        text: Its docstring, cleaned; may be empty.
    """

    name: str
    kind: str
    text: str

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return self.text.partition("\n")[0]


class Library:
    """Names of the standard library, in alphabetical order."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries: list[Entry] = sorted({entry.name: entry for entry in entries}.values())
        self._lower = [entry.name.lower() for entry in self.entries]
        self._order = sorted(range(len(self.entries)), key=self._lower.__getitem__)
        self._sorted = [self._lower[index] for index in self._order]

    def complete(self, typed: str, limit: int = 8) -> list[Entry]:
        """Return the best entries for the letters typed so far.

        First come names that begin with it, short ones before long ones; then names with a part that
        begins with it; then names that contain it.
        """
        typed = typed.strip().lower()
        if not typed:
            return []
        first = bisect_left(self._sorted, typed)
        last = bisect_left(self._sorted, typed + "\uffff")
        found = sorted(self._order[first:last], key=lambda index: len(self._lower[index]))[:limit]
        for pattern in (f".{typed}", typed):
            if len(found) < limit:
                more = (index for index, name in enumerate(self._lower) if pattern in name)
                found += sorted(set(more) - set(found), key=lambda index: len(self._lower[index]))
        return [self.entries[index] for index in found[:limit]]


def library() -> Library:
    """Return the index; call it in a thread, since at first it takes seconds."""
    with _reading:
        return _library()


_reading = Lock()
"""A thread goes on after its turn was cut; two that call `ast.parse` at a time confuse Python 3.11."""


@cache
def _library() -> Library:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Library([entry for file in _files() for entry in _read(file)] + list(_built_in()))


def _files() -> Iterator[Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in LEFT_OUT:
            package = folder / name
            yield from (folder / f"{name}.py", *sorted(package.glob("[!_]*.py")), package / "__init__.py")


def _read(file: Path) -> Iterator[Entry]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = file.parent.name
    module = package if file.stem == "__init__" else file.stem
    if file.stem != "__init__" and package in sys.stdlib_module_names:
        module = package  # such as asyncio, whose names are told without their files
    else:
        yield Entry(module, "module", ast.get_docstring(tree) or "")
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name[0] != "_":
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield Entry(f"{module}.{node.name}", kind, ast.get_docstring(node) or "")


def _built_in() -> Iterator[Entry]:
    for name in sys.builtin_module_names:
        if name.startswith("_") and name != "builtins":
            continue
        for member, value in vars(import_module(name)).items():
            if callable(value) and not member.startswith("_"):
                kind = "class" if isinstance(value, type) else "function"
                yield Entry(f"{name}.{member}", kind, cleandoc(value.__doc__ or ""))
