"""Appearance of the chat page: title, greeting, examples, colour, logo."""

from __future__ import annotations

import argparse
import re
from base64 import b64encode
from pathlib import Path

import msgspec
from msgspec import Struct

MAX_LOGO_BYTES = 64 * 1024
MAX_EXAMPLES = 8
MAX_CHARS = 300

LOGO_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
"""Media types of logos by suffix."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")

_ADDRESS = re.compile(r"(/(?![/\\\\])|https?://[^\s/\\\\])[!-\[\]-~]{0,2000}")
"""A path of this origin, or a web address; never a script."""


class BadPage(ValueError):
    """An invalid page configuration; the message has cause and form."""


class PageConfiguration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Appearance of the chat page.

    Args:
        title: Name of the application, in the header and the browser's tab.
        greeting: Heading of an empty conversation.
        examples: Prompts that a click sends, at most eight.
        accent: Colour of buttons and links, as `#rrggbb`; None for the page's own. It is darkened or
            lightened where its text would be hard to read.
        logo: Path of a picture beside the title: SVG, PNG, WebP or JPEG, at most 64 KiB. None for the
            page's own.
        login: Address of the application's own login, a path such as `/login` or an `https` URL. The page
            links to it where it would ask for a token. None for a server whose users have tokens.

    Raises:
        BadPage: A value is out of bounds, or the logo cannot be read.
    """

    title: str = "bargein"
    greeting: str = "Send a message, and interrupt whenever you like"
    examples: tuple[str, ...] = ("What can you do?", "Tell me a story")
    accent: str | None = None
    logo: str | None = None
    login: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.examples) > MAX_EXAMPLES:
            raise BadPage(f"expected at most {MAX_EXAMPLES} examples, got {len(self.examples)}")
        for text in (self.title, self.greeting, *self.examples):
            if not 0 < len(text) <= MAX_CHARS:
                raise BadPage(f"expected texts of 1 to {MAX_CHARS} characters, got {len(text)}")
        if self.accent is not None and not _COLOUR.fullmatch(self.accent):
            raise BadPage(f"expected an accent such as #3450c8, got {self.accent!r}")
        if self.login is not None and not _ADDRESS.fullmatch(self.login):
            raise BadPage(f"expected a login such as /login or https://example.com/login, got {self.login!r}")
        if self.logo is not None:
            self.logo_url()

    def logo_url(self) -> str | None:
        """Return the logo as a data URL, None without one."""
        if self.logo is None:
            return None
        path = Path(self.logo)
        media_type = LOGO_TYPES.get(path.suffix.lower())
        if media_type is None:
            raise BadPage(f"expected a logo that ends with {', '.join(LOGO_TYPES)}, got {path.name}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadPage(f"cannot read the logo {path}: {error.strerror}") from None
        if len(content) > MAX_LOGO_BYTES:
            raise BadPage(f"expected a logo of at most {MAX_LOGO_BYTES} bytes, got {len(content)}")
        return f"data:{media_type};base64,{b64encode(content).decode()}"


def read_page(path: Path) -> PageConfiguration:
    """Return the configuration in a file of JSON or, by its suffix, TOML.

    The path of the logo is relative to the file.

    Raises:
        BadPage: The file cannot be read, or it is no configuration.
    """
    try:
        text = path.read_bytes()
        decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
        values = decode(text)
        if isinstance(values, dict) and isinstance(values.get("logo"), str):
            values["logo"] = str(path.parent / values["logo"])
        return msgspec.convert(values, PageConfiguration)
    except OSError as error:
        raise BadPage(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadPage(f"expected a page's configuration in {path}: {error}") from None


def add_page_option(parser: argparse.ArgumentParser) -> None:
    """Add `--page` to the command line."""
    parser.add_argument("--page", metavar="FILE", help="JSON or TOML with the look of the chat page")


def page_of(options: argparse.Namespace) -> PageConfiguration | None:
    """Return the configuration that `--page` names, None without it.

    Raises:
        BadPage: The file cannot be read, or it is no configuration.
    """
    return read_page(Path(options.page)) if options.page is not None else None
