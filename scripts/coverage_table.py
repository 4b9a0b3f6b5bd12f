"""Print the branch coverage of each room, and the uncovered lines.

`scripts/coverage` runs it. It exits with 1 when a room is below its bound.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]

BOUNDS = {
    "protocol/bargein_protocol": 97.0,
    "server/bargein_server/core": 97.0,
    "server/bargein_server/hosting": 94.5,
    "server/bargein_server/transport": 95.0,
    "clients/python/bargein_client": 96.0,
}
"""Least coverage of a room, in percent. Each has 97; processes that a test kills leave no data behind."""
PACKAGES = ("protocol/bargein_protocol", "server/bargein_server", "clients/python/bargein_client")


class Coverage(NamedTuple):
    """Statements and branches, and how many of them ran."""

    covered: int = 0
    total: int = 0

    @property
    def percent(self) -> float:
        """The share that ran, in percent."""
        return 100 * self.covered / self.total if self.total else 100.0

    def add(self, summary: dict[str, Any]) -> Coverage:
        """Return the sum with the summary of one file."""
        covered = summary["covered_lines"] + summary["covered_branches"]
        return Coverage(
            self.covered + covered, self.total + summary["num_statements"] + summary["num_branches"]
        )


def measured_files() -> dict[str, Any]:
    """Return the report of coverage.py for each file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        # Tests also run changed copies of the packages in folders of their own.
        here = ",".join(f"{package}/*" for package in PACKAGES)
        program = [sys.executable, "-m", "coverage", "json", "--quiet", "--include", here, "-o", str(report)]
        subprocess.run(program, cwd=ROOT, check=True)
        files: dict[str, Any] = json.loads(report.read_text())["files"]
        return files


def room_of(path: str) -> str:
    """Return the room of a file: its folder, or the package of a top file."""
    package = next(package for package in PACKAGES if path.startswith(f"{package}/"))
    folder = path.removeprefix(f"{package}/").rpartition("/")[0]
    is_room = package == "server/bargein_server" and folder
    return f"{package}/{folder.partition('/')[0]}" if is_room else package


def gaps(report: dict[str, Any]) -> str:
    """Return the ranges of lines and the branches that did not run."""
    lines: list[list[int]] = []
    for line in report["missing_lines"]:
        if lines and line <= lines[-1][1] + 2:
            lines[-1][1] = line
        else:
            lines.append([line, line])
    missing = set(report["missing_lines"])
    ranges = [str(first) if first == last else f"{first}-{last}" for first, last in lines]
    branches = [
        f"{start}→{'exit' if end < 0 else end}"
        for start, end in report["missing_branches"]
        if not {start, end} & missing
    ]
    return " ".join(ranges + branches)


def main(*arguments: str) -> int:
    """Print the tables and return the exit status.

    Without `--all`, rooms without any covered line are left out.
    """
    rooms: dict[str, Coverage] = {}
    for path, report in measured_files().items():
        room = room_of(path)
        rooms[room] = rooms.get(room, Coverage()).add(report["summary"])
        if room in BOUNDS and report["summary"]["covered_lines"] and (missed := gaps(report)):
            print(f"{path}: {missed}")
    print(f"\n{'room':36} {'lines and branches':>20} {'covered':>9}")
    low = []
    for room, coverage in sorted(rooms.items()):
        entered = coverage.covered or "--all" in arguments
        note = ""
        if room in BOUNDS and entered and coverage.percent < BOUNDS[room]:
            low.append(room)
            note = f"below {BOUNDS[room]:.0f} %"
        if entered:
            print(f"{room:36} {coverage.total:20,} {coverage.percent:7.1f} % {note}".rstrip())
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
