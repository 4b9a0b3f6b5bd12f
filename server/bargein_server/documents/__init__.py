"""What the server speaks, for machines: OpenAPI of its HTTP side, AsyncAPI of its socket.

Both are made from the structs that the server itself decodes and encodes, so they cannot tell anything
else. `scripts/schema.py` writes them to `protocol/`, and the server hands them out.
"""

from .asyncapi import asyncapi
from .openapi import openapi

__all__ = ["asyncapi", "openapi"]
