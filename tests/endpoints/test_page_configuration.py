"""Appearance of the chat page: values, files, and what browsers get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bargein_server import BadPage, BearerTokens, PageConfiguration, create_app
from bargein_server.page_configuration import read_page
from live_server import echo


def shown(**arguments: Any) -> dict[str, Any]:
    """Return what the page gets."""
    answer = TestClient(create_app(echo, **arguments), base_url="http://127.0.0.1").get("/page.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "content-security-policy" in answer.headers
    found: dict[str, Any] = answer.json()
    return found


def test_the_page_gets_its_appearance(tmp_path: Path) -> None:
    """The page's own, or the configured one, with the logo as a data URL."""
    own = shown()
    assert (own["title"], own["accent"], own["logo"], own["lists"]) == ("bargein", None, None, False)
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    look = PageConfiguration(
        title="Harbour", examples=("Hello",), accent="#123abc", logo=str(tmp_path / "logo.png")
    )
    found = shown(page=look)
    assert (found["title"], found["examples"], found["accent"]) == ("Harbour", ["Hello"], "#123abc")
    assert found["logo"] == "data:image/png;base64,iVBORw=="


def test_the_page_knows_whether_there_are_lists(tmp_path: Path) -> None:
    """They need a store and authentication."""
    url, tokens = f"sqlite:///{tmp_path}/kept.db", BearerTokens({"t": "ann"})
    assert [
        shown(**arguments)["lists"]
        for arguments in ({"store": url}, {"authenticator": tokens}, {"store": url, "authenticator": tokens})
    ] == [False, False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accent": "blue"}, "expected an accent such as #3450c8, got 'blue'"),
        ({"title": ""}, "expected texts of 1 to 300 characters, got 0"),
        ({"examples": ("x",) * 9}, "expected at most 8 examples, got 9"),
        ({"login": "javascript:alert(1)"}, "expected a login such as /login"),
        ({"login": "//example.com/login"}, "expected a login such as /login"),
        ({"login": "/\\example.com"}, "expected a login such as /login"),
        ({"login": "https://"}, "expected a login such as /login"),
        ({"logo": "logo.gif"}, "expected a logo that ends with .svg"),
        ({"logo": "missing.svg"}, "cannot read the logo missing.svg: No such file"),
    ],
)
def test_other_values_are_refused(values: dict[str, Any], message: str) -> None:
    """With the expected form."""
    with pytest.raises(BadPage, match=message):
        PageConfiguration(**values)


def test_a_large_logo_is_refused(tmp_path: Path) -> None:
    """It is part of every page."""
    (tmp_path / "logo.png").write_bytes(bytes(70_000))
    with pytest.raises(BadPage, match="at most 65536 bytes, got 70000"):
        PageConfiguration(logo=str(tmp_path / "logo.png"))


def test_files_of_json_and_toml(tmp_path: Path) -> None:
    """The logo stands beside the file."""
    (tmp_path / "logo.svg").write_text("<svg/>")
    values = {"title": "Harbour", "examples": ["Hello"], "logo": "logo.svg"}
    (tmp_path / "page.json").write_text(json.dumps(values))
    (tmp_path / "page.toml").write_text('title = "Harbour"\nexamples = ["Hello"]\nlogo = "logo.svg"\n')
    for name in ("page.json", "page.toml"):
        page = read_page(tmp_path / name)
        assert (page.title, page.examples, page.logo) == ("Harbour", ("Hello",), str(tmp_path / "logo.svg"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a page's configuration in"),
        ('{"colour": "red"}', "unknown field `colour`"),
        ('{"accent": "red"}', "expected an accent such as #3450c8"),
        ("[]", "Expected `object`, got `array`"),
    ],
)
def test_a_wrong_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """The message names the file and the fault."""
    (tmp_path / "page.json").write_text(text)
    with pytest.raises(BadPage, match=message):
        read_page(tmp_path / "page.json")
    with pytest.raises(BadPage, match=r"cannot read .*missing\.json: No such file"):
        read_page(tmp_path / "missing.json")
