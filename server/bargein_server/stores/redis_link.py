"""One connection to a Redis or Valkey server, for commands in pipelines.

The library's own clients repeat a command after an error, up to ten times and without a word, so that a write
may run twice and a stopped server holds a caller for a minute. This link repeats nothing: a command that was
not answered fails, and the keeper compares and repairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from .interface import StoreError
from .patience import Patience
from .redis_scripts import Script

ANSWER_S = 2.0
"""Longest time for an answer."""

Command = tuple[Any, ...]


def call_of(script: Script, keys: Sequence[str], *args: Any) -> Command:
    """Return the command that calls a script."""
    return ("EVALSHA", script.digest, len(keys), *keys, *args)


class RedisLink:
    """One connection; calls take effect in the order in which they are made.

    Cancelling a call does not undo it: the connection is dropped, because its answers are still to come.

    Args:
        make: Makes a connection that is not connected yet.
        scripts: The scripts that calls may use.
        where: Name of the server in messages, without a password.

    Attributes:
        answer_s: Time for an answer; then the connection is dropped.
    """

    def __init__(self, make: Callable[[], AbstractConnection], scripts: Sequence[Script], where: str) -> None:
        self._make = make
        self._scripts = {script.digest: script for script in scripts}
        self._where = where
        self.answer_s = ANSWER_S
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one pipeline; return their answers.

        Raises:
            StoreError: The server cannot be used. Any of the commands may have taken effect.
        """
        async with self._turn:
            try:
                async with _patience(self.answer_s):
                    return await self._call(commands)
            except TimeoutError:
                await self._drop()
                raise StoreError("unavailable", f"{self._where} does not answer: is it stopped?") from None
            except (RedisError, OSError) as error:
                await self._drop()
                raise explained(error, self._where) from error
            except BaseException:
                await self._drop()
                raise

    async def connect(self) -> None:
        """Drop the connection, if any, and make a new one.

        Raises:
            StoreError: The server cannot be reached, or refuses the client.
        """
        async with self._turn:
            await self._drop()
        await self.call([("PING",)])

    async def close(self) -> None:
        """Drop the connection after the calls before."""
        async with self._turn:
            await self._drop()

    async def _call(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._make()
            await connection.connect()
        answers = await self._exchange(connection, commands)
        missing = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            # The server was started anew, or its scripts were flushed. A script that is missing has done
            # nothing, so that its call is simply made again.
            wanted = {commands[index][1] for index in missing}
            loads = [("SCRIPT", "LOAD", self._scripts[digest].text) for digest in wanted]
            again = await self._exchange(connection, [*loads, *(commands[index] for index in missing)])
            for load in again[: len(loads)]:
                if isinstance(load, Exception):
                    raise load
            for index, answer in zip(missing, again[len(loads) :], strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _exchange(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await connection.read_response(disconnect_on_error=False))
            except ResponseError as error:
                answers.append(error)
        return answers

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is broken or unwanted: nothing can be done about an error
                await connection.disconnect(nowait=True)


@asynccontextmanager
async def _patience(answer_s: float) -> AsyncIterator[None]:
    """Bound a call's time, without the time in which this process stood still."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as bound:
        patience = Patience(loop, answer_s, lambda: bound.reschedule(loop.time()))
        try:
            yield
        finally:
            patience.cancel()


_DENIED = ("ACL failure", "user executing the script can't run")
"""Parts of errors of a script's command that its user may not run; the second one is that of Redis 6.2."""


def explained(error: Exception, where: str) -> StoreError:
    """Return an error of the client as one for the operator."""
    if isinstance(error, OutOfMemoryError):
        return StoreError("full", f"{where} is out of memory: raise its maxmemory, or lower --keep-s")
    if isinstance(error, ReadOnlyError):
        return StoreError("read_only", f"{where} is a replica: name the primary, or use redis+sentinel://")
    text = str(error)
    if isinstance(error, (NoPermissionError, AuthorizationError)) or any(each in text for each in _DENIED):
        return StoreError("denied", f"{where} denies a command: give its user the rights of docs/cluster.md")
    if isinstance(error, AuthenticationError) or "WRONGPASS" in text or "NOAUTH" in text:
        return StoreError("denied", f"{where} refuses the user or the password: correct them in the URL")
    if isinstance(error, BusyLoadingError):
        return StoreError("loading", f"{where} is loading its data: wait")
    if "MISCONF" in text:
        return StoreError("full", f"{where} cannot write to its disk: free space")
    if isinstance(error, ResponseError):
        return StoreError("unavailable", f"{where} refuses a command: its version may be too old")
    return StoreError("unavailable", f"{where} cannot be reached: start it, or check the URL and the network")
