"""Record the moving picture of the README from the real chat page.

    .venv/bin/python scripts/record_page.py [FILE]

Starts `bargein-server --agent demo`, drives the page in Chromium, and writes an animated WebP: talk, barge
in, reload in the middle of an answer, inspector. Needs `scripts/setup dev` and `scripts/setup_system`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from playwright.async_api import CDPSession, Page, async_playwright

FILE = Path(__file__).parent / "docs_site" / "barge-in.webp"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT, CAPTION = 960, 560, 44
FRAME_S = 0.08
LIMIT_BYTES = 1_500_000
STORY, QUESTION = "Tell me a story", "Wait, what else can you do?"


class Shot(NamedTuple):
    """One frame of the screencast.

    Args:
        at_s: Time of the frame in the browser's clock, in seconds.
        caption: Text of the strip below the page.
        png: The encoded picture.
    """

    at_s: float
    caption: str
    png: bytes


class Recorder:
    """Screencast of one tab.

    Attributes:
        caption: Text of the strip below the next frames.
        shots: The frames so far.
    """

    def __init__(self, page: Page) -> None:
        self.caption = ""
        self.shots: list[Shot] = []
        self._page = page
        self._acknowledgements: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Begin to receive frames over the DevTools protocol."""
        session = await self._page.context.new_cdp_session(self._page)
        session.on("Page.screencastFrame", lambda frame: self._keep(session, frame))
        await session.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})

    def _keep(self, session: CDPSession, frame: Any) -> None:
        png = base64.b64decode(frame["data"])
        self.shots.append(Shot(frame["metadata"]["timestamp"], self.caption, png))
        answer = session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})
        task = asyncio.ensure_future(answer)
        self._acknowledgements.add(task)
        task.add_done_callback(self._acknowledgements.discard)


@asynccontextmanager
async def demo_server() -> AsyncIterator[str]:
    """Run the demo agent on a free port and give the address of its page."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bargein_server",
        "--agent",
        "demo",
        "--port",
        "0",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        socket_url = (await server.stdout.readline()).decode().split()[-1]
        yield socket_url.replace("ws://", "http://").removesuffix("v1/session")
    finally:
        server.terminate()
        await server.communicate()


async def play(page: Page, recorder: Recorder) -> None:
    """Act like a person: ask, cut in, reload, and look at the events."""
    recorder.caption = "An answer streams."
    await ask(page, STORY)
    await words(page, 0, 160)
    recorder.caption = "Say something else while it talks: silence at once."
    await ask(page, QUESTION)
    await words(page, 1, 90)
    recorder.caption = "Reload in the middle of an answer: it goes on."
    await page.reload()
    await words(page, 1, 200)
    recorder.caption = "Stop it. The inspector shows every event, and the interrupt in milliseconds."
    await page.click("#toggle-inspector")
    await words(page, 1, 260)
    await page.click("#stop")
    await page.wait_for_selector("#timeline svg")
    await page.wait_for_timeout(1200)


async def ask(page: Page, text: str) -> None:
    """Type a text at a person's pace and send it."""
    await page.type("#message", text, delay=22)
    await page.press("#message", "Enter")


async def words(page: Page, turn: int, chars: int) -> None:
    """Wait until the answer of a turn shows so many characters."""
    await page.wait_for_function(
        "([turn, chars]) => (document.querySelectorAll('.turn')[turn]"
        "?.querySelector('.body')?.textContent ?? '').length >= chars",
        arg=[turn, chars],
    )


async def record() -> list[Shot]:
    """Play the scene in a fresh profile and return its frames."""
    async with demo_server() as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        await page.goto(url)
        await page.wait_for_selector("#connection[data-state=open]")
        recorder = Recorder(page)
        await recorder.start()
        await play(page, recorder)
        await browser.close()
        return recorder.shots


def thinned(shots: list[Shot]) -> list[Shot]:
    """Return at most one frame per `FRAME_S`, the last of each interval."""
    kept: dict[int, Shot] = {}
    for shot in shots:
        kept[int((shot.at_s - shots[0].at_s) / FRAME_S)] = shot
    return list(kept.values())


def framed(shot: Shot) -> Image.Image:
    """Return a frame with its caption below the page."""
    picture = Image.new("RGB", (WIDTH, HEIGHT + CAPTION), "#1f2328")
    picture.paste(Image.open(io.BytesIO(shot.png)).convert("RGB"), (0, 0))
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(picture).text((20, HEIGHT + 10), shot.caption, font=font, fill="white")
    return picture


def encode(shots: list[Shot]) -> bytes:
    """Return the frames as one animated WebP that plays at the recorded pace."""
    ends = [shot.at_s for shot in shots[1:]] + [shots[-1].at_s + 1.5]
    durations = [round(1000 * (end - shot.at_s)) for shot, end in zip(shots, ends, strict=True)]
    first, *rest = [framed(shot) for shot in shots]
    out = io.BytesIO()
    first.save(
        out, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0,
        lossless=True, quality=60, method=4,
    )  # fmt: skip
    return out.getvalue()


def main() -> int:
    """Record and write the picture; returns the exit code."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    shots = thinned(asyncio.run(record()))
    data = encode(shots)
    print(f"{len(shots)} frames, {shots[-1].at_s - shots[0].at_s:.1f} s, {len(data):,} bytes")
    if len(data) > LIMIT_BYTES:
        print(f"larger than {LIMIT_BYTES:,} bytes: not written", file=sys.stderr)
        return 1
    file.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
