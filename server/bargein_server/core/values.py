"""An author's values of a session, which outlive the process with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import msgspec
from msgspec import Raw

from .change_log import ChangeLog

MAX_VALUE_KEYS = 128
MAX_VALUE_BYTES = 64 * 1024
"""Maximum size of all values of a session with their names, as JSON."""


class SessionValues(MutableMapping[str, Any]):
    """Small values of the author's own, by name.

    A value is any JSON value. Reading returns a copy: assign it again after changing it.

    Args:
        changes: Log of what a store must write; None without a store.
    """

    __slots__ = ("_changes", "_encoded", "_size")

    def __init__(self, changes: ChangeLog | None = None) -> None:
        self._changes = changes
        self._encoded: dict[str, bytes] | None = None  # most sessions have none
        self._size = 0

    def __getitem__(self, name: str) -> Any:
        return msgspec.json.decode((self._encoded or {})[name])

    def __setitem__(self, name: str, value: Any) -> None:
        """Store a value.

        Raises:
            TypeError: The value has no form in JSON, or the name is no string.
            ValueError: The session would have too many values, or too large ones.
        """
        if not isinstance(name, str):
            raise TypeError(f"expected a string as the name of a value, got {type(name).__name__}")
        encoded = msgspec.json.encode(value)
        kept = self._encoded if self._encoded is not None else {}
        size = self._size + _size(name, encoded) - (_size(name, kept[name]) if name in kept else 0)
        if size > MAX_VALUE_BYTES or len(kept) + (name not in kept) > MAX_VALUE_KEYS:
            raise ValueError(
                f"expected at most {MAX_VALUE_KEYS} values of {MAX_VALUE_BYTES} bytes together in a session"
            )
        kept[name] = encoded
        self._encoded, self._size = kept, size
        if self._changes is not None:
            self._changes.touch_head()

    def __delitem__(self, name: str) -> None:
        removed = (self._encoded or {})[name]
        assert self._encoded is not None
        del self._encoded[name]
        self._size -= _size(name, removed)
        if self._changes is not None:
            self._changes.touch_head()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._encoded or ()))

    def __len__(self) -> int:
        return len(self._encoded or ())

    def encoded(self) -> dict[str, Raw]:
        """Return the values as JSON."""
        return {name: Raw(value) for name, value in (self._encoded or {}).items()}

    def restore(self, values: Mapping[str, Raw]) -> None:
        """Fill it from a store."""
        self._encoded = {name: bytes(value) for name, value in values.items()} or None
        self._size = sum(_size(name, value) for name, value in (self._encoded or {}).items())


def _size(name: str, encoded: bytes) -> int:
    return len(name.encode("utf-8", "replace")) + len(encoded)
