"""`GET /`: the page, its headers, and where its files come from."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bargein_server import create_app
from bargein_server.endpoints.page import FOLDERS, TYPES, page_folder
from serving import echo

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def browser() -> TestClient:
    """Whoever asks for the page."""
    return TestClient(create_app(echo))


def test_the_page_stands_at_the_root(browser: TestClient) -> None:
    """HTML, with a policy that lets nothing in from elsewhere, and nothing run but files of the page."""
    answer = browser.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_file_is_served_and_only_those(browser: TestClient) -> None:
    """Under its path below `/static/`, with its type; declarations and paths that climb are not."""
    files = [
        file.relative_to(page_folder()).as_posix()
        for part in FOLDERS
        for file in (page_folder() / part).rglob("*")
        if file.suffix in TYPES
    ]
    assert {"page/main.js", "bargein/index.js", "vendor/markdown-it.js"} <= set(files)
    for file in files:
        answer = browser.get(f"/static/{file}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == TYPES[Path(file).suffix]
    for other in ("package.json", "page/types.d.ts", "..%2f..%2fpyproject.toml", "%2fetc%2fpasswd", ""):
        answer = browser.get(f"/static/{other}")
        assert answer.status_code == 404
        assert "content-security-policy" in answer.headers


def test_what_a_browser_has_is_not_sent_again(browser: TestClient) -> None:
    """An entity tag for each form, compressed or not; 304 when it is the same (RFC 9110 section 13.1.2)."""
    packed = browser.get("/static/page/main.js", headers={"accept-encoding": "gzip"})
    plain = browser.get("/static/page/main.js", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["cache-control"] == "no-cache"
    for known in (packed.headers["etag"], f'"other", W/{packed.headers["etag"]}', "*"):
        again = browser.get(
            "/static/page/main.js", headers={"accept-encoding": "gzip", "if-none-match": known}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == packed.headers["etag"]
    assert browser.get("/static/page/main.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content, 1)) + 100


def test_a_wheel_carries_the_page(tmp_path: Path) -> None:
    """Installed without the checkout, the server finds the same files inside its package."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            tmp_path,
            ROOT,
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    script = (
        "from bargein_server.endpoints.page import Page, page_folder\n"
        "print(page_folder()); print(*sorted(Page(page_folder()).assets), sep='\\n')"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        check=True, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(installed)},
    )  # fmt: skip
    folder, *files = said.stdout.split("\n")
    assert folder == str(installed / "bargein_server" / "web")
    here = {
        file.relative_to(page_folder()).as_posix()
        for part in FOLDERS
        for file in (page_folder() / part).rglob("*")
        if file.suffix in TYPES
    }
    assert {file for file in files if file} == here
    assert (installed / "bargein_server" / "web" / "vendor" / "LICENSES.txt").exists()
