"""Guards of servers that share a store, which the simulation must miss when they are gone."""

from __future__ import annotations

from pathlib import Path

from ..mutants import read

MUTANTS = read(Path(__file__).with_suffix(".toml"))
