"""The examples of the guide run with the newest LlamaIndex and Google ADK, and MCP servers with the others.

Their dependencies exclude each other's and some of the pinned versions, so each framework is installed beside
bargein[server,openai] in an environment of its own, as a user would do it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from machine import ROOT
from other_frameworks import OTHERS, OtherFramework

pytestmark = [pytest.mark.nightly, pytest.mark.same_everywhere, pytest.mark.timeout(900)]

TOOLS = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")


MCP_PACKAGES = (
    "langchain[mcp]", "langchain-openai", "langgraph", "openai-agents", "pydantic-ai-slim[openai,mcp]",
)  # fmt: skip


def environment(name: str, packages: Sequence[str]) -> Path:
    """Return the Python of an environment that has the newest versions of packages."""
    venv = ROOT / f".venv-{name}"
    python = venv / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    _run(
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--system-certs", "--upgrade",
        "--python", str(python), "--editable", ".[server,openai]", *TOOLS, *packages,
    )  # fmt: skip
    return python


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("framework", OTHERS, ids=lambda framework: framework.packages[0])
def test_the_example_is_right_wherever_it_is_cut(framework: OtherFramework) -> None:
    """All places but those that the framework does not have."""
    python = environment(framework.packages[0], framework.packages)
    # The frameworks use what their dependencies deprecate, and ADK never closes the clients of its models.
    done = _run(str(python), "-m", "pytest", "-q", "-W", "ignore", "tests/other_frameworks/test_examples.py")
    assert "passed" in done.stdout, done.stdout


def test_mcp_servers_through_the_hooks_of_the_frameworks() -> None:
    """LangChain's and Pydantic AI's need `fastmcp`, with its own ranges of dependencies."""
    python = environment("fastmcp", MCP_PACKAGES)
    done = _run(str(python), "-m", "pytest", "-q", "-W", "ignore", "tests/frameworks/test_mcp_servers.py")
    assert "13 passed" in done.stdout, done.stdout
