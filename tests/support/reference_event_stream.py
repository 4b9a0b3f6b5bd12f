"""A parser of whole event streams, as the HTML Living Standard words it in section 9.2.6."""

from __future__ import annotations

import re

_LINE_END = re.compile("\r\n|\n|\r")


def events_of(stream: bytes) -> list[tuple[str, str]]:
    """Return type ("" for none) and data of every event; an event without its empty line is dropped."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = _LINE_END.split(text)
    events: list[tuple[str, str]] = []
    data = kind = ""
    for line in lines:
        if not line:
            if data:
                events.append((kind, data.removesuffix("\n")))
            data = kind = ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
    return events
