"""The examples of the guide run with the newest LlamaIndex and Google ADK.

Their dependencies exclude each other's and some of the pinned versions, so each framework is installed beside
bargein[server,openai] in an environment of its own, as a user would do it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from machine import ROOT
from other_frameworks import OTHERS, OtherFramework

pytestmark = [pytest.mark.nightly, pytest.mark.same_everywhere, pytest.mark.timeout(900)]

TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout")


def environment(framework: OtherFramework) -> Path:
    """Return the Python of an environment that has the newest version of a framework."""
    venv = ROOT / f".venv-{framework.packages[0]}"
    python = venv / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    _run(
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--system-certs", "--upgrade",
        "--python", str(python), "--editable", ".[server,openai]", *TOOLS, *framework.packages,
    )  # fmt: skip
    return python


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("framework", OTHERS, ids=lambda framework: framework.packages[0])
def test_the_example_is_right_wherever_it_is_cut(framework: OtherFramework) -> None:
    """All places but those that the framework does not have."""
    python = environment(framework)
    # The frameworks use what their dependencies deprecate, and ADK never closes the clients of its models.
    done = _run(str(python), "-m", "pytest", "-q", "-W", "ignore", "tests/other_frameworks/test_examples.py")
    assert "passed" in done.stdout, done.stdout
