"""Mutants of the running packages: guards that the simulator must miss when they are gone."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from code_change import Change, change_function


class Mutant(Change, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of one method.

    Args:
        guard: The guard that is missing after the change.
    """

    guard: str

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        """Put the changed method into its class, and into the tables of its module that hold it.

        Raises:
            Stale: The target or the pattern is not in the code.
        """
        module = importlib.import_module(self.module)
        owner_name, _, name = self.name.rpartition(".")
        source = change_function(inspect.getsource(module), self)
        scope: dict[str, Any] = {}
        exec(f"from __future__ import annotations\n{source}", vars(module), scope)
        owner, changed = getattr(module, owner_name), scope[name]
        original = getattr(owner, name)
        patch.setattr(owner, name, changed)
        for table in [value for value in vars(module).values() if isinstance(value, dict)]:
            for key in [key for key, held in table.items() if held is original]:
                patch.setitem(table, key, changed)


class _List(Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def read(path: Path) -> tuple[Mutant, ...]:
    """Return the mutants of a list."""
    return msgspec.toml.decode(path.read_bytes(), type=_List).mutant


MUTANTS = read(Path(__file__).with_suffix(".toml"))
