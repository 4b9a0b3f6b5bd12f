"""The distributions hold what they should and nothing else, under one version."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bargein_protocol import __version__
from documentation import ROOT

BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel

build_sdist(sys.argv[1])
build_wheel(sys.argv[1])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of the project, and a wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", BUILD, folder], cwd=ROOT, check=True)
    (folder / "unpacked").mkdir()
    with tarfile.open(folder / f"bargein-{__version__}.tar.gz") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (folder / "again").mkdir()
    unpacked = folder / "unpacked" / f"bargein-{__version__}"
    subprocess.run([sys.executable, "-c", BUILD, folder / "again"], cwd=unpacked, check=True)
    return folder


def names(wheel: Path) -> list[str]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_no_strays(folder: Path) -> None:
    """Three packages, the page, a table of an example: no tests, no documentation, no foreign types."""
    files = names(folder / f"bargein-{__version__}-py3-none-any.whl")
    roots = {"bargein_client", "bargein_protocol", "bargein_server", f"bargein-{__version__}.dist-info"}
    assert {file.partition("/")[0] for file in files} == roots
    suffixes = {".py", ".typed", ".js", ".css", ".html", ".svg"}
    others = [file for file in files if Path(file).suffix not in suffixes and ".dist-info/" not in file]
    assert others == ["bargein_server/examples/interrupts.csv", "bargein_server/web/vendor/LICENSES.txt"]
    assert [file for file in files if "test" in file] == []


def test_the_sdist_builds_the_same_wheel(folder: Path) -> None:
    """A wheel from the sdist has the files of a wheel from the clone."""
    wheel = f"bargein-{__version__}-py3-none-any.whl"
    assert sorted(names(folder / "again" / wheel)) == sorted(names(folder / wheel))


def test_there_is_one_version() -> None:
    """The npm package has that of the Python one."""
    package = json.loads((ROOT / "clients" / "web" / "package.json").read_text("utf-8"))
    assert package["version"] == __version__
