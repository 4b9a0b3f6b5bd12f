"""The command `bargein`: a terminal client."""

from .command import main

__all__ = ["main"]
