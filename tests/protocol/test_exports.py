from __future__ import annotations

import ast
import inspect
from types import ModuleType

import pytest

import bargein_protocol
from bargein_protocol import (
    client_events,
    codec,
    errors,
    event,
    fold,
    indexed_text,
    server_events,
    turn_state,
    types,
)

MODULES = [fold, client_events, codec, errors, event, turn_state, indexed_text, server_events, types]


def public_classes(module: ModuleType) -> set[str]:
    """Return the classes that a module defines under a public name."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_name_exists_once() -> None:
    """Each name of `__all__` is there, and none comes twice."""
    names = bargein_protocol.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(bargein_protocol, name) for name in names)


def test_what_is_imported_is_exported() -> None:
    """The package brings no name in that it does not export, so that nobody depends on it by accident."""
    source = ast.parse(inspect.getsource(bargein_protocol))
    imported = {
        alias.name
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert imported == set(bargein_protocol.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_class_is_exported(module: ModuleType) -> None:
    """An event or a type that a module defines can be had from the package."""
    assert public_classes(module) <= set(bargein_protocol.__all__)


def test_star_import() -> None:
    """`from bargein_protocol import *` brings what is exported and nothing else."""
    names: dict[str, object] = {}
    exec("from bargein_protocol import *", names)
    assert set(names) - {"__builtins__"} == set(bargein_protocol.__all__)
