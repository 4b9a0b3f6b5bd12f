"""Claims of principals on their way to other processes."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.principal import Principal
from .refusals import rare_log

_encode = msgspec.msgpack.Encoder().encode


def portable_claims(principal: Principal | None) -> dict[str, Any]:
    """Return the claims that MessagePack can contain."""
    portable = {}
    for name, value in (principal.claims if principal is not None else {}).items():
        try:
            _encode({name: value})
        except (TypeError, ValueError, OverflowError):
            rare_log.warning(
                "a claim of a principal is left out at other processes: it is %s; expected a JSON value",
                type(value).__name__,
            )
        else:
            portable[name] = value
    return portable
