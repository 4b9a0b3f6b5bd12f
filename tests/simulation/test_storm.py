"""The storm of reconnects that the page on many machines tells of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_storm_is_as_long_as_the_arithmetic_says() -> None:
    """100,000 sessions; the script fails when clients wait for longer than that."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "simulate_storm.py"], capture_output=True, text=True, check=True
    )
    waits = [line for line in done.stdout.splitlines() if "sessions resumed" in line]
    assert [line.partition(":")[0] for line in waits] == [
        "a machine is gone",
        "a node is deployed",
        "half of all nodes are gone",
    ]
    page = (ROOT / "server" / "docs" / "cluster.md").read_text("utf-8")
    for line in waits[:2]:
        p99 = float(line.partition("p99 ")[2].partition(" s")[0])
        assert f"{p99:.1f} s" in page or f"{p99:.2f} s" in page
