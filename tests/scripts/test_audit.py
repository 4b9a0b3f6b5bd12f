"""`scripts/audit.py`: findings fail, a service out of reach does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audit import PINS, main
from documentation import ROOT
from processes import free_port

pytestmark = pytest.mark.same_everywhere

VULNERABLE = "2.0"
ADVISORY = {"id": "PYSEC-1", "summary": "it is broken", "modified": "2026-01-01T00:00:00Z"}
BULK = {
    "bad": [
        {
            "id": 1, "url": "https://advisories.example/1", "title": "it is broken", "severity": "high",
            "vulnerable_versions": "<3", "cwe": [], "cvss": {"score": 0, "vectorString": None},
        }
    ]
}  # fmt: skip

VERSIONS = {version: {"name": "bad", "version": version} for version in ("2.0.0", "3.0.0")}
PACKAGE = {"name": "bad", "versions": VERSIONS, "dist-tags": {"latest": "3.0.0"}}


class Service(BaseHTTPRequestHandler):
    """Advisory service in the formats of OSV and of npm, to which version 2.0 of anything is vulnerable."""

    def do_POST(self) -> None:
        """Answer a query."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/querybatch":
            queries = json.loads(body)["queries"]
            known = [{"vulns": [ADVISORY]} if query["version"] == VULNERABLE else {} for query in queries]
            self._answer({"results": known})
        else:
            self._answer(BULK)

    def do_GET(self) -> None:
        """Answer with the advisory, or with the versions of the package."""
        self._answer(ADVISORY if self.path.startswith("/v1/vulns/") else PACKAGE)

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def advisories() -> Iterator[str]:
    """Run the service; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{service.server_port}"
        finally:
            service.shutdown()


def lock(version: str) -> str:
    """Return a lock file of npm with one package."""
    packages = {"": {"dependencies": {"bad": version}}, "node_modules/bad": {"version": version}}
    return json.dumps({"name": "page", "lockfileVersion": 3, "packages": packages})


def audit(folder: Path, address: str, python: str, web: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Audit one pin and one package of npm at a service."""
    (folder / "pins.txt").write_text(f"# pins\nBad_Thing=={python}\nidna==3.20\n")
    (folder / "package-lock.json").write_text(lock(web))
    (folder / "package.json").write_text(json.dumps({"name": "page", "dependencies": {"bad": web}}))
    monkeypatch.setenv("npm_config_registry", address)
    return main(["--service-url", address, "--pins", str(folder / "pins.txt"), "--web", str(folder)])


@pytest.mark.needs("node")
def test_findings_fail_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the package, its version and the advisory."""
    with advisories() as address:
        assert audit(tmp_path, address, VULNERABLE, "2.0.0", monkeypatch) == 1
    printed = capsys.readouterr().out
    assert "bad-thing 2.0: PYSEC-1 it is broken" in printed
    assert "bad <3: it is broken https://advisories.example/1" in printed


@pytest.mark.needs("node")
def test_no_findings_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind has a line that says so."""
    with advisories() as address:
        assert audit(tmp_path, address, "2.1", "3.0.0", monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Python: known vulnerabilities: 0", "JavaScript: known vulnerabilities: 0",
    ]  # fmt: skip


@pytest.mark.needs("node")
def test_a_service_out_of_reach_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no failure, but it is not silent."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert audit(tmp_path, nowhere, VULNERABLE, "2.0.0", monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Python", "JavaScript"]
    assert all("not audited, the advisory service cannot be reached: " in line for line in lines)


def test_a_tool_that_fails_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing lock file is not taken for a service out of reach."""
    (tmp_path / "pins.txt").write_text("idna==3.20\n")
    with advisories() as address:
        assert main(["--service-url", address, "--pins", str(tmp_path / "pins.txt"), "--web", str(tmp_path)])
    assert "JavaScript: the audit failed: " in capsys.readouterr().out


def test_every_pin_is_audited() -> None:
    """The lines of the pins have the one form that the audit reads."""
    lines = (ROOT / "tests" / "requirements.txt").read_text().splitlines()
    assert len(PINS.findall("\n".join(lines))) == len([line for line in lines if not line.startswith("#")])
