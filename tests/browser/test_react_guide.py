"""The React page of the client's guide, bundled as it is written, in a real browser."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Page, Route

from bargein_server import AccessRequest, Output, Principal, Turn
from documentation import ROOT, blocks
from door_agent import play
from live_server import serving
from waiting import WAIT_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = "clients/web/docs/react.md"
HTML = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="root"></div>'
STRICT = ("<Chat url", "<StrictMode><Chat url"), (' />);', ' /></StrictMode>);'), (
    'import { createRoot }', 'import { StrictMode } from "react";\nimport { createRoot }'
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of the page, as a development server builds it: components are mounted twice."""
    folder = tmp_path_factory.mktemp("react")
    chat, main = (block.text for block in blocks(GUIDE, "jsx"))
    (folder / "chat.jsx").write_text(chat, "utf-8")
    for old, new in STRICT:
        assert old in main
        main = main.replace(old, new)
    (folder / "main.jsx").write_text(main.replace("/chat/v1/session", "/v1/session"), "utf-8")
    subprocess.run(
        [ROOT / "tests/doors/node_modules/.bin/esbuild", folder / "main.jsx", "--bundle", "--jsx=automatic",
         f"--alias:bargein={ROOT / 'clients/web/bargein/index.js'}", f"--outfile={folder / 'app.js'}",
         "--log-level=error", '--define:process.env.NODE_ENV="development"'],
        env={"NODE_PATH": str(ROOT / "tests/doors/node_modules"), "PATH": "/usr/bin:/bin"}, check=True,
    )  # fmt: skip
    return (folder / "app.js").read_text("utf-8")


class Seeing:
    """The agent of the doors, which also names the images that it gets."""

    takes_attachments = ("image/*",)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        """Name the files, then play."""
        for file in turn.attachments:
            yield f"Saw {file.name}. "
        async for output in play(turn):
            yield output


async def by_cookie(request: AccessRequest) -> Principal | None:
    """Admit the user of the application's own login."""
    return Principal("ann") if request.cookies.get("login") == "secret" else None


async def page_of(browser: Browser, origin: str, bundle: str, faults: list[str]) -> Page:
    """Open the page, logged in."""
    context = await browser.new_context()
    await context.add_cookies([{"name": "login", "value": "secret", "url": origin}])
    page = await context.new_page()
    page.set_default_timeout(WAIT_S * 1000)
    page.on("pageerror", lambda error: faults.append(str(error)))

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body=f"{HTML}<script>{bundle}</script>")

    await page.route("**/app.html", answer)
    await page.goto(f"{origin}/app.html")
    return page


async def say(page: Page, text: str) -> None:
    """Type and send."""
    await page.get_by_role("status").get_by_text("open").wait_for()
    await page.fill("input", text)
    await page.press("input", "Enter")


async def _edit_and_open(page: Page) -> None:
    """Edit the last message, look at the conversation from the list, and send a file."""
    page.on("dialog", lambda dialog: dialog.accept("edited"))
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_text("You said edited.").wait_for()
    assert await page.get_by_text("again").count() == 0
    await page.get_by_text("Conversations").click()
    await page.get_by_role("button", name="hello").click()
    for text in ("You said hello.", "Done.", "You heard: 1 2 3", "You said edited."):
        await page.get_by_text(text).wait_for()
    assert await page.get_by_role("article").count() == 4
    inputs = await page.locator("article > p:first-child").all_inner_texts()
    assert inputs == ["hello", "buy", "count", "edited"]
    image = FilePayload(name="dot.png", mimeType="image/png", buffer=b"dot")
    await page.set_input_files("[name=image]", files=[image])
    await say(page, "files")
    await page.get_by_text("Saw dot.png. You said files.").wait_for()


async def test_the_page_of_the_guide(browser: Browser, bundle: str, tmp_path: Path) -> None:
    """A turn, consent to a tool, a stop, a reload in the middle of an answer, and a restart of the server."""
    faults: list[str] = []
    store = f"sqlite:///{tmp_path}/kept.db"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with serving(Seeing(), authenticator=by_cookie, store=store, listener=listener.dup()) as server:
            page = await page_of(browser, f"http://127.0.0.1:{port}", bundle, faults)
            await say(page, "hello")
            await page.get_by_text("You said hello.").wait_for()
            await say(page, "buy")
            await page.get_by_role("button", name="Allow").click()
            await page.get_by_text("Done.").wait_for()
            await say(page, "count")
            await page.get_by_text("1 2 3").first.wait_for()
            await page.reload()
            await page.get_by_text("You said hello.").wait_for()
            await page.get_by_role("button", name="Stop").click()
            await page.get_by_text("You heard: 1 2 3").wait_for()
            assert await page.get_by_role("article").count() == 3
            assert len(list(server.sessions)) == 1
        async with serving(Seeing(), authenticator=by_cookie, store=store, listener=listener.dup()) as server:
            await say(page, "again")
            await page.get_by_text("You said again.").wait_for()
            assert await page.get_by_role("article").count() == 4
            assert len(list(server.sessions)) == 1
            await _edit_and_open(page)
            await page.context.close()
    assert faults == []
