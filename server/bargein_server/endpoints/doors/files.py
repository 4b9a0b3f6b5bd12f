"""Files in the messages of other protocols, such as images.

Those of the message that asks become the attachments of its input. Those of earlier messages are seeded into
a session that does not have these messages; what cannot be is named in their text.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from mimetypes import guess_type
from typing import Any

from msgspec import Struct

from bargein_protocol import Attachment
from bargein_protocol.media_types import are_taken
from bargein_protocol.types import MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS, MAX_NAME_CHARS

from ...core.history import SEED_FILES, Message
from ...guard.admission import Refused

_TEXTS = ("text", "input_text")
_MEDIA = ("image", "audio", "video", "document")
_SOUNDS = {"mp3": "audio/mpeg"}


class FilePart(Struct, frozen=True):
    """A part of a message that is not text.

    Args:
        kind: Its type in the protocol.
        url: Its address, such as a `data:` URL.
        data: Its content in base64, of a protocol that does not use a URL.
        media_type: Its media type, as far as the client gives one.
        name: Its name for people.
    """

    kind: str
    url: str = ""
    data: str = ""
    media_type: str = ""
    name: str = ""


def attachments_of(parts: Iterable[FilePart], taken: Sequence[str]) -> list[Attachment] | None:
    """Return the files of a message as attachments, None without one.

    Args:
        parts: The parts that are not text.
        taken: Media types of the files that the agent takes.

    Raises:
        Refused: One has no content here, is too large, or is not for this agent; or they are too many.
    """
    files = list(parts)
    if len(files) > MAX_ATTACHMENTS:
        raise Refused(422, f"expected at most {MAX_ATTACHMENTS} files in a message, got {len(files)}")
    attachments = [_attachment(part) for part in files]
    for one in attachments:
        if not are_taken([one], taken):
            kinds = f"takes {', '.join(taken)}" if taken else "takes no files"
            raise Refused(422, f"the agent {kinds}, got {one.media_type[:60]!r}")
    return attachments or None


FILES = "files"
"""Key of the files in a message that is not yet seeded."""


def seeded(messages: Sequence[Message], chars: int, taken: Sequence[str]) -> list[Message]:
    """Return messages with the newest files, and the names of the others.

    Args:
        messages: Messages, whose files are at the key `FILES`.
        chars: Bound on the length of the texts and the bytes of the files, as in the history of a session.
        taken: Media types of the files that the agent takes.
    """
    room = chars - sum(len(str(message.get("content"))) for message in messages)
    result: list[Message] = []
    for message in reversed(messages):
        parts: Sequence[FilePart] = message.get(FILES) or ()
        plain = {key: value for key, value in message.items() if key != FILES}
        files: list[Attachment] = []
        for part in parts[:MAX_ATTACHMENTS]:
            kept = _kept(part, taken, room)
            room -= len(kept.data)
            files.append(kept)
        result.append({**plain, SEED_FILES: files} if files else plain)
    return result[::-1]


def _kept(part: FilePart, taken: Sequence[str], room: int) -> Attachment:
    """Return an earlier file; its name alone if the agent cannot have it."""
    name, media_type = part.name[:MAX_NAME_CHARS], _type(part)
    empty = Attachment(media_type=media_type, data=b"", name=name)
    if not are_taken([empty], taken):
        return empty
    try:
        if len(_content(part)) > (room + 2) // 3 * 4:
            return empty
        file = _attachment(part)
    except Refused:
        return empty  # it was refused, or is at another address: the rest of the conversation counts
    return file if len(file.data) <= room else empty


def _attachment(part: FilePart) -> Attachment:
    data = _content(part)
    if len(data) > (MAX_ATTACHMENT_BYTES + 2) // 3 * 4:
        raise Refused(413, f"expected files of at most {MAX_ATTACHMENT_BYTES} bytes")
    try:
        content = b64decode(data, validate=True)
    except ValueError:
        content = b""
    if not content:
        raise Refused(422, f"expected the content of a part of the type {part.kind[:60]!r} in base64")
    return Attachment(media_type=_type(part), data=content, name=part.name[:MAX_NAME_CHARS])


def _content(part: FilePart) -> str:
    """Return the content of a file in base64.

    Raises:
        Refused: The client has not sent it.
    """
    if part.data:
        return part.data
    if part.url[:5].lower() == "data:":
        head, _, data = part.url.partition(",")
        if not head.endswith(";base64"):
            raise Refused(422, "expected data:<media type>;base64,<content> as the URL of a file")
        return data
    if part.url:
        raise Refused(422, "files at other addresses are not fetched: send the content as a data: URL")
    raise Refused(422, f"a part of the type {part.kind[:60]!r} has no content: send it as a data: URL")


def _type(part: FilePart) -> str:
    """Return the media type of a file's content, without parameters."""
    given = part.media_type
    if part.url[:5].lower() == "data:":
        given = part.url[5 : 5 + MAX_NAME_CHARS].partition(",")[0].partition(";")[0] or given
    given = given.partition(";")[0].strip().lower()
    return given[:MAX_NAME_CHARS] or "application/octet-stream"


def _text(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""


def _parts(content: object) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a message that are not text."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") not in _TEXTS:
            yield part


# --- the forms -----------------------------------------------------------------------------------


def chat_files(content: object) -> Iterator[FilePart]:
    """Yield the files in a message of chat completions.

    Images and videos have a URL, documents and sound their content.
    """
    for part in _parts(content):
        kind = _text(part, "type")
        inner = part.get(kind)
        if isinstance(inner, str) and kind.endswith("_url"):  # some clients send the URL alone
            inner = {"url": inner}
        elif not isinstance(inner, dict):
            inner = {}
        if kind == "input_audio":
            sound = _text(inner, "format")
            media_type = _SOUNDS.get(sound, f"audio/{sound}")
            yield FilePart(kind, data=_text(inner, "data"), media_type=media_type)
        elif kind == "file":
            name, given = _text(inner, "filename"), _text(inner, "file_data")
            media_type = guess_type(name)[0] or ""
            is_url = ":" in given[:16]  # base64 has no colon
            url, data = (given, "") if is_url else ("", given)
            yield FilePart(kind, url, data, media_type, name)
        else:
            yield FilePart(kind, _text(inner, "url"))


def ui_files(parts: Iterable[Mapping[str, Any]]) -> Iterator[FilePart]:
    """Yield the files in a message of the AI SDK."""
    for part in parts:
        if part.get("type") == "file":
            media_type, name = _text(part, "mediaType"), _text(part, "filename")
            yield FilePart("file", _text(part, "url"), "", media_type, name)


def ag_ui_files(content: object) -> Iterator[FilePart]:
    """Yield the files in a message of AG-UI, of any version."""
    for part in _parts(content):
        kind, source = _text(part, "type"), part.get("source")
        if kind in _MEDIA and isinstance(source, dict):
            given, media_type = _text(source, "value"), _text(source, "mimeType")
            url, data = (given if source.get("type") == form else "" for form in ("url", "data"))
            yield FilePart(kind, url, data, media_type)
        else:
            name, media_type = _text(part, "filename"), _text(part, "mimeType")
            yield FilePart(kind, _text(part, "url"), _text(part, "data"), media_type, name)
