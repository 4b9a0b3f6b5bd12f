"""Boundary to the code of authors, for every task and thread that runs it.

asyncio lets `SystemExit` and `KeyboardInterrupt` of any task out of the event loop, and the process ends
with all of its sessions. Libraries call `sys.exit()`, as `argparse` does inside a tool. Such an exit is
a failure of the call that made it and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt)


class AuthorExit(RuntimeError):
    """The code of an author tried to end the process; the cause is the original exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"expected an Exception, the call raised {type(error).__name__}: {error}")


class NoThreadFree(Exception):
    """No thread was free for a blocking function in time."""


class Contained(Coroutine[Any, Any, T]):
    """Coroutine of an author whose exits are raised as `AuthorExit`.

    It passes each step on, so that a task which is cancelled before its first step cancels the author's
    coroutine as it would without this class.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the coroutine: asyncio prints its name and stack."""
        return getattr(self._work, name)

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            return (yield from self._work.__await__())
        except EXITS as error:
            raise AuthorExit(error) from error

    def send(self, value: Any) -> Any:
        """Run the next step."""
        try:
            return self._work.send(value)
        except EXITS as error:
            raise AuthorExit(error) from error

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the coroutine stands."""
        try:
            return self._work.throw(*error)
        except EXITS as exit_:
            raise AuthorExit(exit_) from exit_

    def close(self) -> None:
        """Close the coroutine."""
        try:
            self._work.close()
        except EXITS as error:
            raise AuthorExit(error) from error


def call_contained(function: Callable[[], T]) -> T:
    """Call a function of an author in a thread.

    Raises:
        AuthorExit: It raised an exit, or `StopIteration`, which no future can hold.
    """
    try:
        return function()
    except (*EXITS, StopIteration) as error:
        raise AuthorExit(error) from error
