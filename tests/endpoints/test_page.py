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
from live_server import echo

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def browser() -> TestClient:
    """Whoever asks for the page."""
    return TestClient(create_app(echo))


def files_here() -> set[str]:
    """Return the files of the checkout that are to be served."""
    return {
        file.relative_to(page_folder()).as_posix()
        for part in FOLDERS
        for file in (page_folder() / part).rglob("*")
        if file.suffix in TYPES
    }


def test_the_page_stands_at_the_root(browser: TestClient) -> None:
    """HTML, with a policy that lets nothing in from elsewhere, and nothing run but files of the page."""
    answer = browser.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_file_is_served_and_only_those(browser: TestClient) -> None:
    """Under its path below `/static/`, with its type; declarations and paths that climb are not."""
    files = files_here()
    assert {"page/main.js", "bargein/index.js", "vendor/markdown-it.js"} <= files
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


def build(kind: str, folder: Path) -> Path:
    """Build a wheel as pip would; `kind` is `wheel` or `editable`."""
    script = f"import sys; from hatchling.build import build_{kind}; build_{kind}(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", script, folder], check=True, capture_output=True, cwd=ROOT, timeout=60
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_wheel_carries_the_page(tmp_path: Path) -> None:
    """Installed without the checkout, the server finds the same files inside its package."""
    installed = tmp_path / "installed"
    with zipfile.ZipFile(build("wheel", tmp_path)) as archive:
        archive.extractall(installed)
    script = (
        "from bargein_server.endpoints.page import Page, page_folder\n"
        "print(page_folder(), *sorted(Page(page_folder()).assets), sep='\\n')"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        check=True, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(installed)},
    )  # fmt: skip
    web = installed / "bargein_server" / "web"
    assert said.stdout.split("\n")[:-1] == [str(web), *sorted(files_here())]
    assert (web / "vendor" / "LICENSES.txt").exists()


def test_an_editable_install_has_no_copy_of_the_page(tmp_path: Path) -> None:
    """The files of the checkout are served, so that who changes one sees it."""
    with zipfile.ZipFile(build("editable", tmp_path)) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".js", ".html"))]
    assert page_folder() == ROOT / "clients" / "web"
