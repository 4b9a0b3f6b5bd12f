"""Texts in the repository that scripts generate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def between(page: str, begin: str, end: str, part: str) -> str:
    """Return a page with another text between two marks.

    Raises:
        ValueError: The page does not have each mark once, in this order.
    """
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{part}{end}{after}"


def write(texts: Mapping[Path, str], script: str, *, check: bool) -> int:
    """Write the texts that differ from their files.

    Args:
        texts: The current texts.
        script: The script that is run to write them.
        check: Whether to name stale files instead of writing them.

    Returns:
        The exit code: 1 for a stale file when they are checked.
    """
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path} is stale: run python scripts/{script}", file=sys.stderr)
        else:
            path.write_text(texts[path], "utf-8")
    return int(check and bool(stale))
