"""The public surface, and the tree of errors."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import bargein_client
from bargein_client import errors

GUIDE = Path(__file__).parents[2] / "clients" / "python" / "docs" / "guide.md"


def test_everything_public_can_be_imported() -> None:
    """`__all__` is sorted, and every name exists."""
    assert bargein_client.__all__ == sorted(bargein_client.__all__)
    assert all(hasattr(bargein_client, name) for name in bargein_client.__all__)


def test_the_tree_of_errors_is_the_tree() -> None:
    """The head of `errors` shows every error at its place."""
    shown: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"([ │├└─]*)([A-Z]\w+)", line)
        if drawn is not None and drawn[2] in vars(errors):
            shown.append((len(drawn[1]), drawn[2]))
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for depth, name in shown:
        path = [step for step in path if step[0] < depth]
        parents[name] = path[-1][1] if path else "Exception"
        path.append((depth, name))
    defined = {
        name: kind.__mro__[1].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    assert parents == defined


def test_the_guide_names_every_public_error() -> None:
    """The table of errors is complete."""
    guide = GUIDE.read_text("utf-8")
    public = [name for name in bargein_client.__all__ if name in vars(errors) and name != "ServerViolation"]
    assert [name for name in public if f"`{name}`" not in guide] == []
