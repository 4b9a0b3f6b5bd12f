"""Responses of the opening handshake."""

from __future__ import annotations

import pytest

from bargein_server.transport.handshake import denial


@pytest.mark.parametrize("status", [204, 304])
def test_a_denial_without_content_has_no_length(status: int) -> None:
    """RFC 9110 section 8.6; the application's own is dropped as well."""
    response = denial(status, [(b"content-length", b"5")], b"hello")
    assert (response.body, "Content-Length" in response.headers) == (b"", False)


def test_a_denial_has_the_length_of_its_body() -> None:
    """Unless the application gives it."""
    assert denial(403, (), b"hello").headers["Content-Length"] == "5"
