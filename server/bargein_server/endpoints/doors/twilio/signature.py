"""Twilio's signature of a handshake: HMAC-SHA1 of the URL with the token."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from hashlib import sha1

SIGNATURE_HEADER = "x-twilio-signature"


def signature_of(url: str, auth_token: str) -> str:
    """Return the signature of a URL without form fields."""
    digest = hmac.new(auth_token.encode(), url.encode(), sha1).digest()
    return base64.b64encode(digest).decode()


def is_signed(headers: Mapping[str, str], path: str, auth_token: str, public_url: str = "") -> bool:
    """Return whether a handshake has Twilio's signature.

    Args:
        headers: The headers of the handshake, names in lower case.
        path: The path of the request.
        auth_token: The account's auth token.
        public_url: The URL in the TwiML, for a proxy that changes the host or the path; empty to take them
            from the request.
    """
    given = headers.get(SIGNATURE_HEADER, "").encode("utf-8", "replace")
    url = public_url or f"wss://{_host(headers)}{path}"
    # Twilio's clients differ in the slash at the end of a path.
    candidates = (url, url.removesuffix("/"), f"{url.removesuffix('/')}/")
    matches = [hmac.compare_digest(signature_of(each, auth_token).encode(), given) for each in candidates]
    return any(matches)


def _host(headers: Mapping[str, str]) -> str:
    return headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
