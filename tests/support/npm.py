"""Packages from npm, installed into the user's cache on first use.

Without Node.js such a test fails: a skip would look like a success.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

WAIT_S = 60.0
"""For npm; only a failure takes this long."""


async def installed(package: str, version: str, file: str) -> Path:
    """Return the path of a file of a package, installed if need be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "bargein" / f"{package.rpartition('/')[2]}-{version}"
    path = folder / "node_modules" / package / file
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.fail(f"this test needs Node.js with npm, for the package {package}")
        folder.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", f"{package}@{version}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
        if process.returncode or not path.is_file():
            pytest.fail(f"npm could not install {package}: {output.decode()}")
    return path
