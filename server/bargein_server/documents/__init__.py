"""OpenAPI of the HTTP side and AsyncAPI of the WebSocket. Internal.

Both are made from the structs that the server decodes and encodes. `scripts/schema.py` writes them to
`protocol/`, and the server serves them.
"""

from .asyncapi import asyncapi
from .openapi import openapi

__all__ = ["asyncapi", "openapi"]
