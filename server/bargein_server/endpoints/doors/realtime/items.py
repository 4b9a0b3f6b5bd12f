"""Items of a Realtime conversation, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .shapes import JsonMap

MAX_ITEMS = 2000
"""Older items are forgotten; what the model gets is the history of the session, not this list."""


class NoSuchItem(Exception):
    """There is no item of an id."""


class Items:
    """The items, each by its id."""

    def __init__(self) -> None:
        self._items: dict[str, JsonMap] = {}

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
        if len(self._items) > MAX_ITEMS:
            del self._items[next(iter(self._items))]
        return previous

    def remove(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            NoSuchItem: There is none.
        """
        self.get(item_id)
        del self._items[item_id]

    def update(self, item_id: str, **fields: Any) -> JsonMap | None:
        """Replace fields of an item; return it, or None when it was removed."""
        item = self._items.get(item_id)
        if item is not None:
            item = self._items[item_id] = {**item, **fields}
        return item
