"""Values for the application, not described: depth, number and types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from typing import Any

from .client_events import ClientEvent, InputText, SessionOpen, SessionUpdate, ToolOutput
from .server_events import Data, ServerEvent, Snapshot, ToolConfirm, ToolResult, ToolRunning
from .types import MAX_CLIENT_VALUES, MAX_DEPTH, MAX_VALUES

# Values for the application, by type of event.
CLIENT_OPEN_VALUES: dict[type, Callable[[Any], Iterable[object]]] = {
    InputText: lambda event: (event.metadata,),
    SessionUpdate: lambda event: (event.metadata,),
    ToolOutput: lambda event: (event.output,),
    SessionOpen: lambda event: [
        pending.metadata for pending in event.pending or () if isinstance(pending, InputText)
    ],
}


def _values_of_snapshot(event: Snapshot) -> Iterator[object]:
    for turn in event.turns:
        for lane in turn.lanes.values():
            yield from lane.data.values()
            for tool in lane.tools:
                yield tool.given
                yield tool.output


SERVER_OPEN_VALUES: dict[type, Callable[[Any], Iterable[object]]] = {
    Data: lambda event: (event.value,),
    ToolConfirm: lambda event: (event.arguments,),
    ToolRunning: lambda event: (event.arguments,),
    ToolResult: lambda event: (event.output,),
    Snapshot: _values_of_snapshot,
}


def open_value_fault(event: ClientEvent) -> str | None:
    """Return the fault of a value for the application, None without one.

    `decode_client` has looked for faults already.
    """
    values = CLIENT_OPEN_VALUES.get(type(event))
    return None if values is None else _first_fault(values(event), MAX_CLIENT_VALUES)


def server_value_fault(event: ServerEvent) -> str | None:
    """Return the fault of a value for the application, None without one."""
    values = SERVER_OPEN_VALUES.get(type(event))
    return None if values is None else _first_fault(values(event), MAX_VALUES)


def value_fault(value: object, max_values: int = MAX_CLIENT_VALUES) -> str | None:
    """Return the fault of any decoded value: its depth, number or types."""
    return _first_fault((value,), max_values)


def _first_fault(values: Iterable[object], max_values: int) -> str | None:
    for value in values:
        if value is not None and (fault := _fault(value, max_values)) is not None:
            return fault
    return None


_JSON_TYPES: frozenset[type] = frozenset({dict, list, str, int, float, bool, type(None)})
_KEY_TYPES: frozenset[type] = frozenset({str})


def _floats(values: Iterable[object]) -> Iterator[float]:
    return (value for value in values if type(value) is float)


def _fault(value: object, max_values: int) -> str | None:
    """Return the reason why a value cannot be encoded again, None if it can.

    A decoder accepts any nesting that fits the stack at that moment, but deeper in the server there is
    less stack. MessagePack has values that JSON has not, and the other codec could not encode them.
    """
    level = [value]
    values = 0
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= _JSON_TYPES or (float in kinds and not all(map(isfinite, _floats(level)))):
            return "expected values that JSON can hold, got others"
        inner: list[object] = []
        if dict in kinds or list in kinds:
            for one in level:
                if type(one) is list:
                    inner += one
                elif type(one) is dict:
                    if not set(map(type, one)) <= _KEY_TYPES:
                        return "expected keys that are strings, got others"
                    values += len(one)
                    inner += one.values()
        if not inner:
            return None
        values += len(inner)
        if values > max_values:
            return f"expected at most {max_values} values, got more"
        level = inner
    if any(isinstance(one, (dict, list)) for one in level):
        return f"expected at most {MAX_DEPTH} nested levels, got more"
    return None
