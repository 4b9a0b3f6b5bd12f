"""Ears of all sessions: the detector's thread, the recogniser, limits."""

from __future__ import annotations

import asyncio
import logging
import os
from time import perf_counter
from typing import Any

from ...agent import Agent, hears
from ...core import Judge, Transcribe
from ...core.speech.negotiation import OUTPUT_RATE, AudioSupport
from ...core.speech.words import Transcript
from ...guard.limits import RareLog
from ...settings import Settings
from ...telemetry import NO_TELEMETRY, Telemetry
from ...voice.interfaces import VoiceError, VoiceParts
from .detector_thread import BEHIND_S, Cut, DetectorThread, Ear, Heard, Owner
from .dictations import Dictations
from .recognition_queue import QueueFull, RecognitionQueue
from .session_ear import HearingHost, SessionEar

# The longest time for which results are passed on without a look at anything else.
_SLICE_S = 0.001

log = RareLog(logging.getLogger("bargein.voice"))


class Ears:
    """Ears of one server; belongs to one event loop.

    Args:
        parts: The detector, the recogniser and the judge.
        settings: The limits.
        loop: The event loop.
        telemetry: Telemetry of the server.
        keeps_sound: Whether the agent hears.

    Attributes:
        thread: The detector's thread.
        queue: Places for recognitions.
        support: What sessions negotiate with.
        echoes: Onsets of speech that were the agent's own voice.
        keeps_sound: Whether the sound of inputs is kept for the agent.
    """

    def __init__(
        self,
        parts: VoiceParts,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        telemetry: Telemetry = NO_TELEMETRY,
        *,
        keeps_sound: bool = False,
    ) -> None:
        self.thread = DetectorThread(parts.detector, self._deliver)
        self.queue = RecognitionQueue(settings.max_recognitions or os.cpu_count() or 1)
        self.echoes = 0
        self.keeps_sound = keeps_sound
        self._parts = parts
        self._settings = settings
        self._loop = loop
        self._telemetry = telemetry
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._lots: dict[Ear, list[Heard]] = {}
        self._places = 0
        rate = parts.voice.rate if parts.voice is not None else OUTPUT_RATE
        self._dictations = Dictations(parts.recogniser)
        self.support = AudioSupport(
            True, parts.judge is not None, rate, parts.language, self._dictations.partial, self._admit
        )

    # --- places ----------------------------------------------------------------------------------

    def _admit(self, again: bool) -> bool:
        """Take a place for a session; False without one, or when it lags.

        A session that was listened to before comes back also while the thread lags: its user talks.
        """
        is_behind = self.thread.behind_s > BEHIND_S and not again
        if self._places >= self._settings.max_listeners or is_behind:
            log.warning(
                "sessions are not listened to, because there are too many: raise --max-listeners if "
                "bargein_detector_behind_seconds stays small"
            )
            return False
        self._places += 1
        return True

    def release(self) -> None:
        """Release the place of a session."""
        self._places -= 1

    def forget(self, ear: Owner) -> None:
        """Drop the dictations of a session that is not listened to any more."""
        self._dictations.forget(ear)

    def ear_of(self, host: HearingHost) -> SessionEar:
        """Return the ear of a session."""
        return SessionEar(host, self)

    @property
    def listeners(self) -> int:
        """Number of sessions that are listened to."""
        return self._places

    # --- results of the thread -------------------------------------------------------------------

    def _deliver(self) -> None:
        self._loop.call_soon_threadsafe(self._take_results)

    def _take_results(self) -> None:
        results = self.thread.results
        while results:
            result = results.popleft()
            if isinstance(result, Cut):
                self._begin(result)
            elif not result.ear.closed:
                self._lots.setdefault(result.ear, []).append(result)
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass frames on to the sessions, as many as a slice of time has room for."""
        until = perf_counter() + _SLICE_S
        while self._lots:
            ear = next(iter(self._lots))
            ear.owner.frames(ear, self._lots.pop(ear))
            if perf_counter() > until:
                self._loop.call_soon(self._pass_on)
                return

    # --- recognitions ----------------------------------------------------------------------------

    def _begin(self, cut: Cut) -> None:
        ear = cut.ear.owner
        key = (id(ear), cut.command.request)
        if ear.was_cancelled(cut.command.request):
            return
        if self.keeps_sound and isinstance(cut.command, Transcribe) and _kind(cut.command) == "whole":
            ear.heard(cut.command.utterance, cut.sound)
        task = self._loop.create_task(self._recognise(ear, cut), name="recognition")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def cancel(self, ear: Owner, request: int) -> bool:
        """Cancel a recognition; return False if it has not begun."""
        task = self._tasks.get((id(ear), request))
        return task is not None and task.cancel()

    async def _recognise(self, ear: Owner, cut: Cut) -> None:
        command = cut.command
        kind = _kind(command)
        began, result, cause = perf_counter(), "done", ""
        answer: Transcript | float | None = None
        try:
            async with asyncio.timeout(self._settings.recognition_s):
                place = self.queue.spare() if kind == "partial" else self.queue.place(first=kind != "whole")
                async with place:
                    answer = await self._ask(ear, command, cut.sound)
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except QueueFull:
            result, cause = "refused", "too many wait: raise --max-recognitions or add processors"
        except TimeoutError:
            result, cause = "late", f"no answer within {self._settings.recognition_s:g} s"
        except Exception as error:
            result, cause = "failed", str(error) if isinstance(error, VoiceError) else type(error).__name__
        finally:
            self._telemetry.recognised(kind, result, perf_counter() - began)
        if answer is None:
            if kind == "partial":
                ear.failed(command)  # the next one may succeed; the transcript comes anyway
                return
            log.warning("a recognition of speech failed: %s", cause)
            ear.failed(command)
        else:
            ear.answered(command, answer)

    async def _ask(self, ear: Owner, command: Transcribe | Judge, sound: Any) -> Transcript | float:
        if isinstance(command, Judge):
            assert self._parts.judge is not None
            return await self._parts.judge.complete(sound)
        if not command.quick:
            dictation = self._dictations.of(ear, command.utterance)
            if dictation is not None and command.partial:
                return Transcript(await dictation.partial(sound))
            if dictation is not None:
                return await dictation.transcribe(sound, lambda text: ear.partly(command, text))
        return await self._parts.recogniser.transcribe(sound, quick=command.quick)

    # --- the life of the server ------------------------------------------------------------------

    async def shut_down(self) -> None:
        """Stop the thread and cancel all recognitions."""
        self.thread.stop()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._dictations.close()


def _kind(command: Transcribe | Judge) -> str:
    """Return the kind of a recognition, as metrics name it."""
    if isinstance(command, Judge):
        return "judge"
    return "partial" if command.partial else "quick" if command.quick else "whole"


def ears_of(
    parts: VoiceParts | None,
    agent: Agent,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    telemetry: Telemetry,
) -> Ears | None:
    """Return the ears of a server; None without parts of voice."""
    if parts is None:
        return None
    return Ears(parts, settings, loop, telemetry, keeps_sound=hears(agent))
