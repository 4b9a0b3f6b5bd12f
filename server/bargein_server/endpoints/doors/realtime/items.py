"""Items of a Realtime conversation, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import json

from .shapes import JsonMap

MAX_ITEMS = 2000
MAX_BYTES = 4 * 1024 * 1024
"""Older items are forgotten; what the model gets is the history of the session, not this list."""


class NoSuchItem(Exception):
    """There is no item of an id."""


class Items:
    """The items, each by its id."""

    def __init__(self) -> None:
        self._items: dict[str, JsonMap] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __iter__(self) -> Iterator[JsonMap]:
        return iter(self._items.values())

    @property
    def last_id(self) -> str | None:
        """The id of the last item, None without one."""
        return next(reversed(self._items), None)

    def get(self, item_id: str) -> JsonMap:
        """Return an item.

        Raises:
            NoSuchItem: There is none.
        """
        try:
            return self._items[item_id]
        except KeyError:
            raise NoSuchItem(item_id) from None

    def before(self, item_id: str) -> str | None:
        """Return the id of the item before another, None at the front."""
        previous: str | None = None
        for each in self._items:
            if each == item_id:
                return previous
            previous = each
        return None

    def add(self, item: JsonMap, previous_id: str | None = None) -> str | None:
        """Insert an item after another; return the one before, None at the front.

        Args:
            item: The item, with a new id.
            previous_id: The item before it; `root` for the front, None for the end.

        Raises:
            NoSuchItem: There is no item of `previous_id`.
        """
        if previous_id is None:
            previous = self.last_id
            self._items[item["id"]] = item
        elif previous_id == "root":
            previous = None
            self._items = {item["id"]: item, **self._items}
        else:
            self.get(previous_id)
            previous = previous_id
            order: dict[str, JsonMap] = {}
            for item_id, each in self._items.items():
                order[item_id] = each
                if item_id == previous_id:
                    order[item["id"]] = item
            self._items = order
        self._weigh(item)
        while len(self._items) > MAX_ITEMS or (self._bytes > MAX_BYTES and len(self._items) > 1):
            self._remove(next(each for each in self._items if each != item["id"]))
        return previous

    def _weigh(self, item: JsonMap) -> None:
        size = len(json.encode(item))
        self._bytes += size - self._sizes.get(item["id"], 0)
        self._sizes[item["id"]] = size

    def _remove(self, item_id: str) -> None:
        del self._items[item_id]
        self._bytes -= self._sizes.pop(item_id)

    def remove(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            NoSuchItem: There is none.
        """
        self.get(item_id)
        self._remove(item_id)

    def update(self, item_id: str, **fields: Any) -> JsonMap | None:
        """Replace fields of an item; return it, or None when it was removed."""
        item = self._items.get(item_id)
        if item is not None:
            item = self._items[item_id] = {**item, **fields}
            self._weigh(item)
        return item
