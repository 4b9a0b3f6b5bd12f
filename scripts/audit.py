"""Report known vulnerabilities of pinned Python and npm packages.

    .venv/bin/python scripts/audit.py

The exit code is 1 when one is found, or when a tool failed. A service that cannot be reached is reported
in one line and is no failure, because not every machine may talk to one.

`uv audit` reads a lock file. It is made here from `tests/requirements.txt`, so that exactly the pins are
audited and nothing is resolved. `npm audit` reads the `package-lock.json` of `clients/web`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

PINS = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", re.MULTILINE)

_UNREACHABLE = re.compile(
    r"error sending request|HTTP status|Request failed|audit endpoint|request to \S+ failed"
)
_PROJECT = '[project]\nname = "pins"\nversion = "0"\nrequires-python = ">=3.11"\n'
_LOCK = 'version = 1\nrequires-python = ">=3.11"\n'
# The place is never asked: nothing is resolved or installed.
_PACKAGE = '\n[[package]]\nname = "{}"\nversion = "{}"\nsource = {{ registry = "https://index.invalid" }}\n'
_PINNING = '\n[[package]]\nname = "pins"\nversion = "0"\nsource = {{ virtual = "." }}\ndependencies = [{}]\n'


class Unreachable(Exception):
    """The advisory service cannot be reached; the message is the tool's."""


class Failed(Exception):
    """A tool failed; the message is its own."""


def audit_python(pins: str, options: Sequence[str] = ()) -> list[str]:
    """Return a line for each vulnerability of pinned packages.

    Args:
        pins: Lines of the form `name==version`.
        options: Further options of `uv audit`.

    Raises:
        Unreachable: The service cannot be reached.
        Failed: The tool failed.
    """
    packages = [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in PINS.findall(pins)]
    with tempfile.TemporaryDirectory() as folder:
        named = ", ".join(f'{{ name = "{name}" }}' for name, _ in packages)
        lock = _LOCK + _PINNING.format(named) + "".join(_PACKAGE.format(*package) for package in packages)
        Path(folder, "uv.lock").write_text(lock)
        Path(folder, "pyproject.toml").write_text(_PROJECT)
        report = _json_of(
            ["uv", "audit", "--frozen", "--quiet", "--system-certs", "--output-format", "json", *options],
            Path(folder),
        )
    return [
        f"{found['dependency']['name']} {found['dependency']['version']}: {found['id']} {found['summary']}; "
        f"fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for found in report["vulnerabilities"]
    ]


def audit_web(folder: Path) -> list[str]:
    """Return a line for each vulnerable package of a lock file of npm.

    Raises:
        Unreachable: The service cannot be reached.
        Failed: The tool failed.
    """
    report = _json_of(["npm", "audit", "--package-lock-only", "--json"], folder)
    return [
        f"{name} {found['range']}: {cause['title']} {cause['url']}"
        for name, found in report["vulnerabilities"].items()
        for cause in found["via"]
        if isinstance(cause, dict)  # a text names the dependency that has it
    ]


def _json_of(command: list[str], folder: Path) -> dict[str, Any]:
    """Return a tool's report; it exits with 1 for findings and errors alike."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": path, "UV_HTTP_RETRIES": "0", "npm_config_fetch_retries": "0"},
        )  # fmt: skip
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed: run scripts/setup_tests") from None
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {}
    if "vulnerabilities" in report:
        return report
    cause = report.get("message") or done.stderr.strip() or f"exit code {done.returncode}"
    raise (Unreachable if _UNREACHABLE.search(f"{cause}\n{done.stderr}") else Failed)(cause)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit both kinds; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--service-url", help="advisory service for the Python packages, in the format of OSV"
    )
    parser.add_argument("--pins", type=Path, default=ROOT / "tests" / "requirements.txt", help="the pins")
    parser.add_argument(
        "--web", type=Path, default=ROOT / "clients" / "web", help="the folder of the lock file"
    )
    given = parser.parse_args(arguments)
    options = ["--service-url", given.service_url] if given.service_url else []
    audits: dict[str, Callable[[], list[str]]] = {
        "Python": lambda: audit_python(given.pins.read_text(), options),
        "JavaScript": lambda: audit_web(given.web),
    }
    bad = False
    for kind, audit in audits.items():
        try:
            found = audit()
        except Unreachable as error:
            cause = str(error).splitlines()[-1].strip()
            print(f"{kind}: not audited, the advisory service cannot be reached: {cause}")
        except Failed as error:
            print(f"{kind}: the audit failed: {error}")
            bad = True
        else:
            print(f"{kind}: known vulnerabilities: {len(found)}", *found, sep="\n  ")
            bad = bad or bool(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
