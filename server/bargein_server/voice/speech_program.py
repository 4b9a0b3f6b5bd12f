"""Synthesiser in a program of its own, `programs/synthesiser.py`.

The program starts on first use, answers one request after the other, and is started anew after it has died.
It ends with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import NamedTuple

from .interfaces import NotInstalled, Spoken, VoiceError

PROGRAM = Path(__file__).with_name("programs") / "synthesiser.py"

_START_S = 20.0
_SILENCE_S = 10.0
_TAIL_BYTES = 2048
# Markup that models write and no voice should read; replaced one by one, so that positions stay the same.
_MARKUP = str.maketrans(dict.fromkeys("*_`#|<>~^\\", " "))

log = logging.getLogger("bargein.voice")


_Answers = asyncio.Queue[Spoken | VoiceError | None]


class _Request(NamedTuple):
    """A text that is being synthesised."""

    process: asyncio.subprocess.Process
    answers: _Answers


class SpeechProgram:
    """Voice behind the protocol of `programs/synthesiser.py`.

    Args:
        command: The program and its arguments.
        rate: Samples per second.

    Attributes:
        rate: Samples per second.
        word_times: Whether it reports when each word begins.
    """

    def __init__(self, command: Sequence[str], rate: int) -> None:
        self.rate: int = rate
        self.word_times: bool = True
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Lock | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._answers: dict[int, _Request] = {}
        self._last = 0
        self._tail = b""
        self._ending = False

    @property
    def pid(self) -> int | None:
        """Id of the process; None unless it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def startup(self) -> None:
        """Start the program unless it runs.

        Raises:
            NotInstalled: The program ended at once, such as without its voice; with its last words.
        """
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self.pid is None:
                await self._start()

    async def shutdown(self) -> None:
        """End the program; unfinished texts fail."""
        self._ending = True
        if self._process is not None and self._process.returncode is None:
            _kill(self._process)
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    async def say(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Yield the sound of a text in pieces; closing it withdraws the request.

        Raises:
            VoiceError: The program failed or does not answer.
        """
        try:
            await self.startup()
        except NotInstalled as error:  # it did start once
            raise VoiceError(str(error)) from error
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self._last += 1
        number = self._last
        answers: _Answers = asyncio.Queue()
        self._answers[number] = _Request(process, answers)
        complete = False
        try:
            self._request(process, {"id": number, "text": _speakable(text)})
            while True:
                try:
                    async with asyncio.timeout(_SILENCE_S):
                        answer = await answers.get()
                except TimeoutError:
                    raise VoiceError(f"the voice did not answer within {_SILENCE_S:g} s") from None
                if answer is None or isinstance(answer, VoiceError):
                    complete = True
                    if answer is not None:
                        raise answer
                    return
                yield answer
        finally:
            del self._answers[number]
            if not complete:
                self._request(process, {"cancel": number})

    def _request(self, process: asyncio.subprocess.Process, message: dict[str, object]) -> None:
        if process.returncode is None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _start(self) -> None:
        self._tail, self._ending = b"", False
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--parent={os.getpid()}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise NotInstalled(f"{self._command[0]} cannot be run: {error.strerror}") from error
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # In a context of its own: a turn may start the program, and the program outlives it.
        self._watcher = asyncio.create_task(self._watch(process, ready), context=Context())
        try:
            async with asyncio.timeout(_START_S):
                await ready
        except TimeoutError:
            _kill(process)
            raise VoiceError(f"the voice did not start within {_START_S:g} s") from None

    async def _watch(self, process: asyncio.subprocess.Process, ready: asyncio.Future[None]) -> None:
        """Read the program's output until it ends."""
        assert process.stdout is not None
        assert process.stderr is not None
        tail = asyncio.create_task(self._keep_tail(process.stderr))
        try:
            while line := await process.stdout.readline():
                header = json.loads(line)
                pcm = await process.stdout.readexactly(header["bytes"])
                if "rate" in header:
                    self.rate, self.word_times = header["rate"], header["word_times"]
                    if not ready.done():
                        ready.set_result(None)
                elif (request := self._answers.get(header["id"])) is not None:
                    _hand_over(request.answers, header, pcm)
        except (asyncio.IncompleteReadError, ValueError, KeyError):
            _kill(process)  # killed in the middle of a frame, or it wrote something else
        await tail
        status = await process.wait()
        last_words = self._tail.decode(errors="replace").strip().rpartition("\n")[2]
        for request in self._answers.values():
            if request.process is process:  # and not of the next one, which may have been started already
                request.answers.put_nowait(VoiceError(f"the voice ended with {status}"))
        if not ready.done():
            ready.set_exception(NotInstalled(last_words or f"the voice ended with {status}"))
        elif not self._ending:
            log.error("the voice ended with %d: %s", status, last_words)

    async def _keep_tail(self, stream: asyncio.StreamReader) -> None:
        while text := await stream.read(4096):
            self._tail = (self._tail + text)[-_TAIL_BYTES:]


def _hand_over(answers: _Answers, header: dict[str, object], pcm: bytes) -> None:
    if words := header.get("words"):
        assert isinstance(words, list)
        answers.put_nowait(Spoken(pcm, tuple((int(at), int(ms)) for at, ms in words)))
    elif pcm:
        answers.put_nowait(Spoken(pcm))
    if header.get("last"):
        error = header.get("error")
        answers.put_nowait(VoiceError(f"the voice failed: {error}") if error else None)


def _speakable(text: str) -> str:
    """Return a text without markup and control characters, of the same length."""
    plain = text.translate(_MARKUP)
    return "".join(character if character.isprintable() else " " for character in plain)


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself
        process.kill()
