"""Files that go with a message."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence
from pathlib import Path

from bargein_protocol import Attachment
from bargein_protocol.types import MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS, MAX_NAME_CHARS

from ..errors import BargeinError

UNKNOWN = "application/octet-stream"


async def read_files(names: Sequence[str]) -> list[Attachment]:
    """Return files as attachments.

    Raises:
        BargeinError: A file cannot be read, is too large, or there are too many.
    """
    check_number(len(names))
    return [await asyncio.to_thread(read_file, name) for name in names]


def check_number(count: int) -> None:
    """Raise `BargeinError` for more files than go with a message."""
    if count > MAX_ATTACHMENTS:
        raise BargeinError(f"at most {MAX_ATTACHMENTS} files go with a message")


def read_file(name: str) -> Attachment:
    """Return a file as an attachment; its media type follows from its name.

    Raises:
        BargeinError: It cannot be read, or is too large.
    """
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ATTACHMENT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BargeinError(f"cannot read {name}: {why}") from None
    if len(data) > MAX_ATTACHMENT_BYTES:
        raise BargeinError(f"{name} is too large: a file has at most {MAX_ATTACHMENT_BYTES // 2**20} MiB")
    media_type, encoding = mimetypes.guess_type(path.name)
    if media_type is None or encoding is not None:  # a compressed file is not of the type of its content
        media_type = UNKNOWN
    label = path.name.encode("utf-8", "replace").decode()[:MAX_NAME_CHARS]
    return Attachment(media_type=media_type.lower(), data=data, name=label)
