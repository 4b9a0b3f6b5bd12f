"""JSON Schemas of structs, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"


def schemas_of(types: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schema of each type, and the definitions that those refer to, by name."""
    wanted, parts = msgspec.json.schema_components(tuple(types), ref_template=REF)
    for part in parts.values():
        # A docstring's first line says what it is; the rest is for readers of the code.
        if "description" in part:
            part["description"] = part["description"].partition("\n")[0]
    return list(wanted), dict(sorted(parts.items()))
