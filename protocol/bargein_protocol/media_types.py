"""Media types of attachments: which ones an agent takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .client_events import InputText
from .types import Attachment

IMAGES = ("image/gif", "image/jpeg", "image/png", "image/webp")
"""Media types of the images that the models of all large providers read."""

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]*)|\*/\*")


class BadMediaType(ValueError):
    """`takes_attachments` is no list of media types; the message has the form."""


def media_types(declared: object) -> tuple[str, ...]:
    """Return the media types that an agent's `takes_attachments` declares.

    Args:
        declared: True for any file, False or None for none, else media types such as `image/png`
            or `image/*`.

    Raises:
        BadMediaType: It is something else.
    """
    if declared is True:
        return ("*/*",)
    if declared is False or declared is None:
        return ()
    types = (declared,) if isinstance(declared, str) else declared
    if not isinstance(types, Iterable):
        raise BadMediaType(f"expected media types in takes_attachments, got {type(declared).__name__}")
    found = tuple(types)
    for one in found:
        if not isinstance(one, str) or _TYPE.fullmatch(one) is None:
            raise BadMediaType(f'expected media types such as "image/png" in takes_attachments, got {one!r}')
    return found


def are_taken(attachments: Iterable[Attachment], taken: Sequence[str]) -> bool:
    """Return whether all attachments have one of these types (`*` is open)."""
    return all(
        _TYPE.fullmatch(one.media_type) is not None
        and "*" not in one.media_type
        and any(one.media_type == each or _is_of_kind(one.media_type, each) for each in taken)
        for one in attachments
    )


def _is_of_kind(media_type: str, pattern: str) -> bool:
    return pattern == "*/*" or (pattern.endswith("/*") and media_type.startswith(pattern[:-1]))


def attached_bytes(asked: InputText) -> int:
    """Return the size of an input's files."""
    return sum(len(one.data) for one in asked.attachments or ())
