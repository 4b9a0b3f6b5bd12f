"""Licences of everything that is installed: the page has it all, and nothing needs the GPL."""

from __future__ import annotations

import re
import sys

import pytest

from documentation import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import licences

PAGE = (ROOT / "server" / "docs" / "licences.md").read_text("utf-8")
PINNED = {
    re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
    for line in (ROOT / "tests" / "requirements.txt").read_text("utf-8").splitlines()
}


@pytest.mark.parametrize("extra", licences.extras())
def test_every_package_is_on_the_page(extra: str) -> None:
    """With its licence, which is not the GPL; packages of other versions than the tests' may differ."""
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \| [^|]+ \|$", PAGE, re.M))
    for name, known in licences.packages_of(extra).items():
        licence = licences.licence_of(known)
        assert not re.search(r"\bA?GPL", licence), (name, licence)
        if name in PINNED:
            assert name in rows, f"{name} is not on the page: run python scripts/licences.py"
            assert rows[name] != "unknown", name
