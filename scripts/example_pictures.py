"""Take the pictures of the guide to the examples from the real chat page.

    .venv/bin/python scripts/example_pictures.py [NAME …]

Starts each example as its guide does, talks to it in Chromium, and writes `docs_site/pictures/NAME.webp`.
The examples and the page are the real ones; the model behind them is `example_scripts.py`, so that the
pictures can be made again without a key. Needs `scripts/setup dev` and `scripts/setup_system`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import uvicorn
from PIL import Image
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from example_scripts import REPLIES
from record_page import CHROMIUM, ask

FOLDER = Path(__file__).parent / "docs_site" / "pictures"
SIZE = {"width": 860, "height": 620}
WORD_S = 0.02

Scene = Callable[[Page], Awaitable[None]]


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    """Return one event of a completion's stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


async def completion(reply: str | tuple[str, dict[str, Any]], call_id: str) -> AsyncIterator[str]:
    """Yield a reply by words: a text, or a tool call's name and arguments."""
    if isinstance(reply, str):
        for word in reply.split(" "):
            yield chunk({"content": f"{word} "})
            await asyncio.sleep(WORD_S)
        yield chunk({}, "stop")
    else:
        function = {"name": reply[0], "arguments": json.dumps(reply[1])}
        yield chunk({"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function}]})
        yield chunk({}, "tool_calls")
    yield "data: [DONE]\n\n"


async def complete(request: Request) -> StreamingResponse:
    """Answer a completion request with the reply of the example's script."""
    messages = (await request.json())["messages"]
    reply = REPLIES[request.path_params["example"]](messages)
    return StreamingResponse(completion(reply, f"call_{len(messages)}"), media_type="text/event-stream")


@asynccontextmanager
async def model_server() -> AsyncIterator[str]:
    """Serve the scripted model and give its address."""
    app = Starlette(routes=[Route("/{example}/v1/chat/completions", complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def example_server(name: str, model: str, log: IO[bytes] | None = None) -> AsyncIterator[str]:
    """Run an example on a free port and give the address of its page.

    Args:
        name: The example's module.
        model: Address of the scripted model.
        log: File for the server's log; without it, the log goes to this program's standard error.
    """
    environment = {**os.environ, "OPENAI_MODEL": "scripted", "OPENAI_BASE_URL": f"{model}/{name}/v1"}
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", f"bargein_server.examples.{name}:agent", "--port", "0",
        "--log-level", "warning", stdout=asyncio.subprocess.PIPE, stderr=log, env=environment,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        socket_url = (await server.stdout.readline()).decode().split()[-1]
        yield socket_url.replace("ws://", "http://").removesuffix("v1/session")
    finally:
        server.terminate()
        await server.communicate()


async def say(page: Page, text: str) -> None:
    """Send a text at once, faster than a person types."""
    await page.fill("#message", text)
    await page.press("#message", "Enter")


async def shown(page: Page, text: str) -> None:
    """Wait until the conversation shows a text."""
    await page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


async def unfold(page: Page) -> None:
    """Open the steps of the last answer."""
    await page.locator(".turn").last.locator("summary").first.click()


async def ended(page: Page) -> None:
    """Wait for the end of the last answer."""
    await page.locator(".turn").last.and_(page.locator("[data-status=completed]")).wait_for()
    await page.wait_for_timeout(300)


async def support(page: Page) -> None:
    """Ask for a refund, up to the question of consent."""
    await ask(page, "The desk lamp is broken, I want my money back")
    await page.get_by_role("button", name="Allow").wait_for()


async def research(page: Page) -> None:
    """Ask the readers, while all of them write."""
    await ask(page, "How do I cancel a coroutine that takes too long?")
    await shown(page, "CancelledError")


async def coding(page: Page) -> None:
    """Let a program be written whose first attempt is broken."""
    await ask(page, "Write a function that counts the words of a file")
    await ended(page)


async def analysis(page: Page) -> None:
    """Ask for the figures of the table that comes with the example."""
    await ask(page, "interrupt_ms and first_token_ms by clients")
    await ended(page)


async def translation(page: Page) -> None:
    """Type a text in three pieces, the second in the middle of a sentence."""
    await ask(page, "The sea is old. It has seen many ships, and it")
    await shown(page, "Das Meer ist alt.")
    await say(page, "remembers all of them. Once a small boat came by.")
    await shown(page, "Es hat viele Schiffe")
    await say(page, "Nobody knew where it came from.")
    await ended(page)


async def typeahead(page: Page) -> None:
    """Type a name, with an input for some of the keystrokes."""
    await ask(page, "glo")
    await shown(page, "glob.glob")
    for text in ("glob.", "glob.e", "glob.es"):
        await say(page, text)
    await ended(page)


async def document(page: Page) -> None:
    """Stop a document in its second section, and go on."""
    await ask(page, "A short guide to tides")
    await shown(page, "In the quarters between")
    await page.keyboard.press("Escape")
    await ask(page, "go on")
    await shown(page, "3. Reading a tide table")


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (typeahead, analysis, support, coding, document, translation, research)
}  # fmt: skip


async def take(names: list[str]) -> None:
    """Play the scenes and write their pictures."""
    async with model_server() as model, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for name in names:
            async with example_server(name, model) as url:
                page = await browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
                await page.goto(url)
                await page.wait_for_selector("#connection[data-state=open]")
                await SCENES[name](page)
                picture = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
                picture.save(FOLDER / f"{name}.webp", "WEBP", lossless=True, quality=80, method=6)
                print(f"{name}: {(FOLDER / f'{name}.webp').stat().st_size:,} bytes")
                await page.close()
        await browser.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(take(sys.argv[1:] or list(SCENES)))
