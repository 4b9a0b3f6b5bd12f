"""A piece of work that a trace shows: a call of a model, a tool, an agent. Here it shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

Attribute = str | bool | int | float | Sequence[str]


class Span:
    """See the module. This one does nothing, as in a server without traces.

    Work is not the current span of the code around it, because an async generator has no context of
    its own: what is made current while it stands at a `yield` would be so for whoever pulls it.
    """

    __slots__ = ()

    def current(self) -> AbstractContextManager[None]:
        """Return a block in which other spans become children of this one. Never `yield` in it."""
        return nullcontext()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes; what users or models said does not belong there."""

    def fail(self, kind: str) -> None:
        """Say that the work failed, with the name of an exception's class or a code."""

    def end(self) -> None:
        """The work is over. Every span must be ended, once."""


NO_SPAN = Span()
