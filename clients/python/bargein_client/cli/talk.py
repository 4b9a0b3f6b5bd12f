"""Conversation by voice: `bargein talk`, with devices or files."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import bargein_protocol as bp

from ..connect import connect
from ..errors import BargeinError
from ..player import AudioPlayer
from ..session import ClientSession
from .screen import Screen
from .sound import FileSound, Sound, SoundDevice, SoundFailed, wav_rate
from .terminal import moves_cursor
from .words import failed, interrupted

OUTPUT_RATE = 24_000
LEAVE_WITHIN_S = 2.0
SHOWN_CHARS = 60
"""Last characters of the words so far that fit beside the level."""
BAR = "▁▂▃▄▅▆▇█"
BAR_S = 0.1

NO_EARS = "this server does not listen; start it with: bargein-server --voice"
NO_VOICE = "this server does not speak; its answers are text"


class TalkFailed(Exception):  # named like the package's errors, without a suffix
    """There is no sound, or the server takes none; the message has the remedy."""


class Talk:
    """One conversation by voice.

    Args:
        session: The session.
        screen: Output of the words.
        player: Player of the answers; None when the server does not speak.
    """

    def __init__(self, session: ClientSession, screen: Screen, player: AudioPlayer | None) -> None:
        self._session = session
        self._screen = screen
        self._player = player
        self._pressed_at = float("-inf")
        self._tasks: set[asyncio.Task[Any]] = set()
        self.speaking = False
        self._so_far = ""
        self.left = asyncio.Event()

    @property
    def quiet(self) -> bool:
        """Whether all are silent, and no answer is on its way."""
        sounds = self._player is not None and self._player.playing is not None
        return not (self.speaking or sounds or self._session.current is not None)

    @property
    def floor(self) -> str:
        """Holder of the floor, with the user's words so far if there are any."""
        if self.speaking:
            return f"you: {self._so_far[-SHOWN_CHARS:]}" if self._so_far else "you speak"
        return "listening" if self.quiet else "speak to interrupt"

    def press_break(self) -> None:
        """Handle Ctrl-C: stop the answer; leave without one or at the second."""
        now = asyncio.get_running_loop().time()
        again, self._pressed_at = now - self._pressed_at < LEAVE_WITHIN_S, now
        turn = self._session.current
        if again or turn is None:
            self.left.set()
        else:
            self._spawn(turn.interrupt())

    async def follow(self) -> None:
        """Write the words of the conversation until it is over."""
        texts: dict[bp.TurnId, str] = {}
        async for event in self._session.events():
            if isinstance(event, (bp.SpeechStarted, bp.SpeechStopped)):
                self.speaking = isinstance(event, bp.SpeechStarted)
                self._so_far = ""
            elif isinstance(event, bp.TranscriptDelta):
                self._so_far += event.text
            elif isinstance(event, bp.TranscriptDone):
                if event.text:
                    self._screen.line("note", f"you: {event.text}")
            elif isinstance(event, (bp.TextDelta, bp.AudioDelta)) and not event.source:
                texts[event.turn_id] = texts.get(event.turn_id, "") + (event.text or "")
            elif isinstance(event, bp.TurnEnded):
                self._end(event, texts.pop(event.turn_id, ""))

    def _end(self, ended: bp.TurnEnded, text: str) -> None:
        if ended.status == "interrupted":
            self._screen.write("text", ended.heard.text)
            self._screen.cut()
            self._screen.line("note", interrupted(ended.reason))
        else:
            self._screen.write("text", text)
            self._screen.end_line()
            if ended.status == "failed":
                self._screen.line("mark", failed(ended))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        async def guarded() -> None:
            with suppress(BargeinError):
                await work

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def talk(url: str, token: str | None, screen: Screen, source: Path | None, sink: Path | None) -> int:
    """Talk to an agent until the end or the file's end; return the exit code.

    Args:
        url: URL of the server.
        token: A credential.
        screen: Output of the words.
        source: WAV file in place of the microphone.
        sink: WAV file in place of the loudspeaker.

    Raises:
        BargeinError: The connection failed.
        TalkFailed: There is no sound, or the server takes none.
    """
    try:
        rate = 16_000 if source is None else wav_rate(source)
        asked = bp.SessionAudio(input=bp.AudioFormat(rate=rate), output=bp.AudioFormat(rate=OUTPUT_RATE))
        async with connect(url, token=token, audio=asked) as session:
            granted = session.audio
            if granted is None or session.microphone.format is None:
                raise TalkFailed(NO_EARS)
            player = AudioPlayer(granted.output) if granted.output is not None else None
            if player is None:
                screen.line("note", NO_VOICE)
            out_rate = OUTPUT_RATE if granted.output is None else granted.output.rate
            conversation = Talk(session, screen, player)
            if source is None and sink is None:
                sound: Sound = SoundDevice(session.microphone, player, rate, out_rate)
            else:
                sound = FileSound(session.microphone, player, rate, out_rate, source, sink)
            await _converse(session, conversation, player, sound, screen)
    except SoundFailed as error:
        raise TalkFailed(str(error)) from None
    return 0


async def _converse(
    session: ClientSession, conversation: Talk, player: AudioPlayer | None, sound: Sound, screen: Screen
) -> None:
    loop = asyncio.get_running_loop()
    works = [conversation.follow(), sound.run(lambda: conversation.quiet), conversation.left.wait()]
    if player is not None:
        works.append(player.run(session))
    works.append(_show_levels(conversation, sound, screen))
    tasks = [loop.create_task(work) for work in works]
    handles_break = _on_break(loop, conversation.press_break)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        if handles_break:
            loop.remove_signal_handler(signal.SIGINT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sound.close()


async def _show_levels(conversation: Talk, sound: Sound, screen: Screen) -> None:
    """Show the microphone's level and the floor, where there is a place."""
    if not moves_cursor(sys.stderr):
        await asyncio.Event().wait()
    while True:
        bar = BAR[min(len(BAR) - 1, int(sound.level * len(BAR)))]
        screen.status(f"{bar} {conversation.floor}", passing=True)
        await asyncio.sleep(BAR_S)


def _on_break(loop: asyncio.AbstractEventLoop, pressed: Any) -> bool:
    try:
        loop.add_signal_handler(signal.SIGINT, pressed)
    except NotImplementedError:  # Windows: Ctrl-C leaves
        return False
    return True
