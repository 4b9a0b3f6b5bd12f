"""JSON Schemas of structs, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"


def schemas_of(types: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schemas of types, and the definitions they refer to, by name."""
    wanted, parts = msgspec.json.schema_components(tuple(types), ref_template=REF)
    for part in parts.values():
        # The first line of a docstring is the description; the rest is for readers of the code.
        if "description" in part:
            part["description"] = part["description"].partition("\n")[0]
    return list(wanted), dict(sorted(parts.items()))
