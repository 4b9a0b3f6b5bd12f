"""The first line of a docstring is short plain English: it names the thing, or the act."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("protocol", "server", "clients/python", "scripts")
LONGEST = 72
RULES = {
    "a what or who clause: name the thing": re.compile(r"\b(what|who|whoever|whatever)\b", re.I),
    "code that talks: say that it sends, returns, holds": re.compile(
        r"\b(tell|tells|told|say|says|said|speak|speaks|spoken|hear|hears|know|knows|owe|owes)\b",
        re.IGNORECASE,
    ),
    "nobody or somebody: name the part": re.compile(r"\b(nobody|somebody|everybody)\b", re.I),
    "leans on another line: name the subject": re.compile(
        r"^(And|Or|But|Of|Those|They|It|Its|Their|See the)\b"
    ),
}


@cache
def first_lines() -> list[tuple[str, str]]:
    """Return the place and the first line of each docstring."""
    lines = []
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    lines.append(
                        (f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text.split("\n")[0])
                    )
    return lines


@pytest.mark.parametrize("rule", RULES)
def test_first_lines_are_plain(rule: str) -> None:
    """Words that hide the subject are left out."""
    assert [f"{where}  {line}" for where, line in first_lines() if RULES[rule].search(line)] == []


def test_first_lines_are_short() -> None:
    """One line of a window that shows a name with its description."""
    assert [f"{where}  {line}" for where, line in first_lines() if len(line) > LONGEST] == []
