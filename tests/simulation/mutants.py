"""Mutants of the running packages: guards that the simulator must miss when they are gone."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from code_change import Change, change_function


class Mutant(Change, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of one method.

    Args:
        guard: The guard that is missing after the change.
    """

    guard: str

    def plant(self) -> tuple[type, str, Any]:
        """Return the class, the name and the changed method.

        Raises:
            Stale: The target or the pattern is not in the code.
        """
        module = importlib.import_module(self.module)
        owner_name, _, name = self.name.rpartition(".")
        source = change_function(inspect.getsource(module), self)
        scope: dict[str, Any] = {}
        exec(f"from __future__ import annotations\n{source}", vars(module), scope)
        return getattr(module, owner_name), name, scope[name]


class _List(Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


MUTANTS = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_List).mutant
