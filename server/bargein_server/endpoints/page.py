"""`GET /`, `GET /static/…` and `GET /page.json`: the chat page.

The page consists of static files, which are inside this package in a wheel and in `clients/web` in a
checkout. They are read once and served from memory, compressed where the browser accepts it. The content
security policy allows no inline script or style, no other origin, and no string as HTML.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Coroutine, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import Response

from ..page_configuration import PageConfiguration

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cache-Control": "no-cache",  # revalidated each time; 304 while unchanged
    "Vary": "Accept-Encoding",
}

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types by suffix; files with other suffixes are not served."""

FOLDERS = ("page", "bargein", "vendor")
"""The parts of `clients/web` that a browser needs."""


class Appearance(Struct, frozen=True, kw_only=True):
    """Appearance of the page, for its script.

    Args:
        title: Name of the application.
        greeting: Heading of an empty conversation.
        examples: Prompts that a click sends.
        accent: Colour of buttons and links; None for the page's own.
        logo: A data URL; None for the page's own.
        login: Address of the application's own login; None without one.
        lists: Whether the server lists the conversations of authenticated users.
    """

    title: str
    greeting: str
    examples: tuple[str, ...]
    accent: str | None
    logo: str | None
    login: str | None
    lists: bool


def appearance(page: PageConfiguration, lists: bool) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return the endpoint of `/page.json`.

    Raises:
        BadPage: The logo cannot be read.
    """
    shown = Appearance(
        title=page.title,
        greeting=page.greeting,
        examples=page.examples,
        accent=page.accent,
        logo=page.logo_url(),
        login=page.login,
        lists=lists,
    )
    asset = Asset(json.encode(shown), "application/json")

    async def answer(request: Request) -> Response:
        return asset.answer(request.headers)

    return answer


class Asset:
    """A file of the page.

    Attributes:
        body: The content.
        media_type: The content type.
        compressed: The content, compressed with gzip.
        etag: A strong validator (RFC 9110 section 8.8.3) of the bytes, without quotes.
    """

    def __init__(self, body: bytes, media_type: str) -> None:
        self.body = body
        self.media_type = media_type
        self.compressed = gzip.compress(body, 9, mtime=0)
        self.etag = sha256(body).hexdigest()[:32]

    def answer(self, headers: Mapping[str, str]) -> Response:
        """Return the file, or 304 for a browser that has it already.

        Args:
            headers: The headers of the request.
        """
        zipped = "gzip" in headers.get("accept-encoding", "")
        tag = f'"{self.etag}-gzip"' if zipped else f'"{self.etag}"'
        answer = {**HEADERS, "ETag": tag, "Content-Type": self.media_type}
        known = [item.strip().removeprefix("W/") for item in headers.get("if-none-match", "").split(",")]
        if tag in known or known == ["*"]:
            return Response(status_code=304, headers=answer)
        if zipped:
            answer["Content-Encoding"] = "gzip"
        return Response(self.compressed if zipped else self.body, headers=answer)


class Page:
    """The files of the page, read from a folder.

    Args:
        folder: The parent of `FOLDERS`.
    """

    def __init__(self, folder: Path) -> None:
        self.assets = {
            file.relative_to(folder).as_posix(): Asset(file.read_bytes(), TYPES[file.suffix])
            for part in FOLDERS
            for file in sorted((folder / part).rglob("*"))
            if file.suffix in TYPES
        }

    async def index(self, request: Request) -> Response:
        """Answer `/`."""
        return self.assets["page/index.html"].answer(request.headers)

    async def file(self, request: Request) -> Response:
        """Answer `/static/{path}`."""
        asset = self.assets.get(request.path_params["path"])
        return asset.answer(request.headers) if asset is not None else Response("not found", 404, HEADERS)


def page_folder() -> Path:
    """Return the parent of the page's folders, in the package or the checkout."""
    package = Path(__file__).parent.parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent.parent / "clients" / "web"
