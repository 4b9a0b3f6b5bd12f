"""Which web pages may open a session."""

from __future__ import annotations

import logging

import pytest

from bargein_server.guard.admission import Admission, Refused
from bargein_server.guard.authentication import BearerTokens
from bargein_server.guard.origins import BadOrigin, allowed_origins, may_connect
from bargein_server.settings import Settings


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "allowed", "expected"),
    [
        (None, "example.com", "ws", (), True),  # no browser
        ("http://example.com", "example.com", "ws", (), True),
        ("http://example.com:80", "example.com", "ws", (), True),
        ("https://example.com", "example.com", "wss", (), True),
        ("http://EXAMPLE.com", "example.com", "ws", (), True),
        ("http://localhost:8000", "localhost:8000", "ws", (), True),
        ("http://localhost:8001", "localhost:8000", "ws", (), False),
        ("https://evil.com", "example.com", "ws", (), False),
        ("https://example.com.evil.com", "example.com", "wss", (), False),
        ("http://example.com", "example.com", "wss", (), False),  # the page came over plain HTTP
        ("https://example.com", "example.com", "ws", (), True),  # a proxy ended TLS and does not say so
        ("https://example.com:8443", "example.com:8443", "ws", (), True),
        ("https://example.com", "example.com:8443", "ws", (), False),
        ("null", "example.com", "ws", (), False),
        ("null", "null", "ws", (), False),
        ("", "", "ws", (), False),
        ("http://[::1", "[::1", "ws", (), False),
        ("http://x:99999", "x:99999", "ws", (), False),
        ("http://example.com", None, "ws", (), False),
        ("https://app.io", "api.io", "wss", ("https://app.io",), True),
        ("https://app.io", "api.io", "wss", ("https://other.io",), False),
        ("https://any.io", "api.io", "wss", ("*",), True),
        ("null", "api.io", "wss", ("null",), True),
    ],
)
def test_same_origin_or_listed(
    origin: str | None, host: str | None, scheme: str, allowed: tuple[str, ...], expected: bool
) -> None:
    """The server's own origin, what is listed, and who has none."""
    assert may_connect(origin, host, scheme, "10.0.0.1", allowed) is expected


@pytest.mark.parametrize(
    ("host", "local", "expected"),
    [
        ("evil.com:8000", "127.0.0.1", False),
        ("evil.com:8000", "::1", False),
        ("127.0.0.1.evil.com:8000", "127.0.0.1", False),
        ("localhost:8000", "127.0.0.1", True),
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("evil.com:8000", "10.0.0.1", True),
        ("localhost:8000", "10.0.0.1", True),
    ],
)
def test_on_the_loopback_a_name_must_be_one_of_the_loopback(host: str, local: str, expected: bool) -> None:
    """A page that gives its own name the address 127.0.0.1 is not of the server's origin."""
    assert may_connect(f"http://{host}", host, "ws", local, ()) is expected


def test_a_refused_origin_is_logged_once_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    """The number of lines is bounded, whatever clients send."""
    caplog.set_level(logging.WARNING, "bargein.server")
    admission = Admission(Settings(), None, (), lambda: 0.0)

    def attempt(origin: str) -> None:
        headers = {"origin": origin, "host": "api.io"}
        with pytest.raises(Refused, match="403"):
            admission.enter(headers, "wss", (), "10.0.0.2", "10.0.0.1")

    attempt("https://app.io")
    attempt("https://app.io")
    assert [record.getMessage() for record in caplog.records] == [
        "pages of 'https://app.io' may not connect, because the server was reached as 'api.io'; "
        "to allow it: --origin 'https://app.io' or origins=['https://app.io']; "
        "a proxy in between must pass the Host header on"
    ]
    attempt("https://other.io\x1b[2J")
    assert "\x1b" not in caplog.records[-1].getMessage()
    for number in range(100):
        attempt(f"https://{number}.io")
    assert len(caplog.records) == 64


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.com:443/", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:8080/", "http://example.com:8080"),
        (" https://b\xfccher.example ", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
        ("null", "null"),
    ],
)
def test_an_allowed_origin_is_compared_as_browsers_send_it(given: str, sent: str) -> None:
    """However the operator writes it."""
    assert allowed_origins([given]) == {sent}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "example.com",
        "https://",
        "https://example.com/app",
        "https://a@example.com",
        "https://x:99999",
        "/app",
    ],
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    """It would allow nothing, without a word."""
    with pytest.raises(BadOrigin, match="expected an origin such as https"):
        allowed_origins([given])


@pytest.mark.parametrize(
    ("host", "forwarded", "secured", "welcome"),
    [
        ("chat.example", None, True, True),  # the proxy passes Host on
        ("127.0.0.1:8000", "chat.example", True, True),
        ("127.0.0.1:8000", "chat.example, inner", True, True),
        ("127.0.0.1:8000", None, True, False),
        ("127.0.0.1:8000", "evil.example", True, False),
        ("chat.example", None, False, False),  # such as a name that resolves to 127.0.0.1
        ("127.0.0.1:8000", "chat.example", False, False),
    ],
)
def test_a_public_name_behind_a_proxy_on_this_machine(
    host: str, forwarded: str | None, secured: bool, welcome: bool
) -> None:
    """With an authenticator a name needs no protection, and the proxy's header is believed."""
    authenticator = BearerTokens({"secret": "ann"}) if secured else None
    admission = Admission(Settings(), authenticator, (), lambda: 0.0)
    headers = {"origin": "https://chat.example", "host": host}
    if forwarded is not None:
        headers["x-forwarded-host"] = forwarded
    if welcome:
        admission.enter(headers, "ws", (), "10.0.0.2", "127.0.0.1")
    else:
        with pytest.raises(Refused, match="403"):
            admission.enter(headers, "ws", (), "10.0.0.2", "127.0.0.1")
