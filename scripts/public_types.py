"""Check with pyright that the public names of the packages are typed.

pyright's own score counts internal modules too. This one counts the names that a package exports, with
their members, and everything in the packages that are public themselves.

python scripts/public_types.py    print a score for each package; exit with 1 when one is below 99 %
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "protocol", ROOT / "server", ROOT / "clients" / "python")
PACKAGES = ("bargein_protocol", "bargein_server", "bargein_client")
PUBLIC = ("bargein_server.agents.", "bargein_server.streams.", "bargein_server.examples.")
LEAST = 0.99


def report(package: str) -> Mapping[str, Any]:
    """Return pyright's report on a package."""
    search = os.pathsep.join(map(str, SOURCES))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": search, "PATH": path}
    )
    found: Mapping[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    return found


def public_prefixes(package: str) -> tuple[str, ...]:
    """Return the full names of the public objects of a package.

    Each has two: in the package itself, and in the module that defines it.
    """
    front = import_module(package)
    names = [f"{package}.{name}" for name in front.__all__]
    homes = [getattr(getattr(front, name), "__module__", None) for name in front.__all__]
    names += [f"{home}.{name}" for home, name in zip(homes, front.__all__, strict=True) if home is not None]
    return tuple(names)


def untyped(package: str) -> tuple[int, list[str]]:
    """Return the number of public symbols, and those without a certain type."""
    prefixes = public_prefixes(package)
    symbols = [
        symbol
        for symbol in report(package)["symbols"]
        if symbol["isExported"]
        and (
            symbol["name"].startswith(PUBLIC)
            or any(symbol["name"] == name or symbol["name"].startswith(name + ".") for name in prefixes)
        )
    ]
    return len(symbols), [f"{symbol['name']}: {cause}" for symbol in symbols if (cause := _cause(symbol))]


def _cause(symbol: Mapping[str, Any]) -> str | None:
    """Return the reason why a symbol counts as untyped, None if typed.

    "Partially unknown" is left out: the cause is a member of a type in the signature, which counts as a
    symbol of its own when it is public. Missing type arguments, the other cause, are found by mypy.
    """
    if symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]:
        return None
    causes = [found["message"].splitlines()[0] for found in symbol["diagnostics"]]
    own = [cause for cause in causes if "partially unknown" not in cause]
    return own[0] if own else None


def main() -> int:
    """Print the scores; return the exit code."""
    failed = False
    for package in PACKAGES:
        count, missing = untyped(package)
        score = 1 - len(missing) / count
        print(f"{package}: {score:.1%} of {count} public symbols are typed")
        if score < LEAST:
            failed = True
            print(*(f"    {line}" for line in missing), sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.path[:0] = map(str, SOURCES)
    sys.exit(main())
