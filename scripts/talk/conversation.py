"""Conversation of one simulated caller, whose line may be lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from msgspec import Struct

from .caller import REPORT_S, Caller, Format, LineLost, calling
from .checks import HEARD_MS, Checks
from .clips import Clip
from .measures import Figures

PATIENCE_S = 20.0
"""Time after which a turn that was asked for and says nothing new hangs."""
_AWAY_S = (0.1, 4.0)


class Plan(Struct, frozen=True):
    """Acts of callers.

    Args:
        speech: Clips that interrupt.
        noises: Clips that do not: coughs, hums, words of agreement.
        drops: Share of exchanges that lose the line.
        coughs: Share of exchanges with a cough.
    """

    speech: list[Clip]
    noises: list[Clip]
    drops: float
    coughs: float


class Conversation:
    """Conversation of one caller.

    Args:
        plan: What it does.
        chance: Decides.
        counts: Where faults are counted.
        figures: Where times go, in milliseconds.
    """

    def __init__(self, plan: Plan, chance: Random, counts: Counter[str], figures: Figures) -> None:
        self._plan = plan
        self._chance = chance
        self._counts = counts
        self._figures = figures
        self._dropped = False

    async def talk(self, url: str, audio: Format, until: float) -> None:
        """Talk until a time of the loop; a line that the server ends is replaced."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            try:
                async with calling(url, audio, self._chance.randrange(2**31)) as caller:
                    checks = Checks(caller, self._counts)
                    await asyncio.sleep(self._chance.uniform(0.5, 2))
                    while loop.time() < until:
                        await self._exchange(caller, checks)
                        caller.events.clear()
                        caller.played_ms.clear()
            except (LineLost, OSError) as error:
                self._counts[f"line lost: {error}"] += 1
                await asyncio.sleep(1)

    async def _exchange(self, caller: Caller, checks: Checks) -> None:
        chance, self._dropped = self._chance, False
        loses_line = chance.random() < self._plan.drops
        dropping = asyncio.create_task(self._drop(caller, checks)) if loses_line else None
        kind = chance.random()
        if kind < self._plan.coughs:
            await self._cough(caller)
        elif kind < self._plan.coughs + 0.15:
            await self._listen(caller)
        else:
            await self._interrupt(caller)
        if dropping is not None:
            await dropping
        await self._settle(caller, checks)
        await asyncio.sleep(chance.uniform(0.2, 1.5))

    async def _drop(self, caller: Caller, checks: Checks) -> None:
        await asyncio.sleep(self._chance.uniform(0.2, 6))
        self._dropped = True
        self._counts["lines dropped"] += 1
        dropping = asyncio.create_task(caller.drop(self._chance.uniform(*_AWAY_S)))
        while caller.connected and not dropping.done():
            await asyncio.sleep(0.001)
        checks.line_cut()
        await dropping

    async def _story(self, caller: Caller, text: str) -> float:
        """Let the agent talk; return the time of its first sound, or of giving up."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        await caller.ask(text)
        sound = await caller.event("audio.delta", at, PATIENCE_S)
        if sound is None and not self._dropped:
            self._counts["no answer"] += 1
        return sound or loop.time()

    async def _interrupt(self, caller: Caller) -> None:
        """Interrupt aloud while the agent talks, and wait for the answer."""
        await self._story(caller, "talk")
        await asyncio.sleep(self._chance.uniform(0.5, 4))
        speaker, clip = caller.loudspeaker, self._chance.choice(self._plan.speech)
        turn_id = speaker.turn_id
        began = await caller.say(clip.sound)
        ended = await caller.event("turn.ended", began, clip.end_s + 4, turn_id=turn_id)
        if self._dropped:
            return
        held = await caller.event("turn.held", began, 0.1, turn_id=turn_id)
        if ended is None or held is None:
            self._counts["barge-ins missed"] += 1
            return
        self._counts["barge-ins"] += 1
        self._figures.setdefault("onset → turn.held", []).append(1000 * (held - began - clip.onset_s))
        self._figures.setdefault("onset → turn.ended", []).append(1000 * (ended - began - clip.onset_s))
        self._check_heard(caller, turn_id)
        answered = await caller.event("turn.ended", ended, clip.end_s + PATIENCE_S, status="completed")
        if answered is None and not self._dropped:
            self._counts["speech without an answer"] += 1

    def _check_heard(self, caller: Caller, turn_id: str) -> None:
        held = False
        for _, event in caller.events:
            if event.get("turn_id") != turn_id:
                continue
            if event["type"] in ("turn.held", "turn.resumed"):
                held = event["type"] == "turn.held"
            elif event["type"] == "turn.ended":
                error = abs(event["heard"]["audio_ms"] - caller.played_ms[turn_id])
                # A turn that was taken for no speech, and went on, has the position of the last report.
                bound = HEARD_MS if held else HEARD_MS + 1000 * REPORT_S
                self._figures.setdefault("heard: error" if held else "heard: error, not held", []).append(
                    error
                )
                self._counts["heard wrong"] += error > bound

    async def _cough(self, caller: Caller) -> None:
        """Cough or agree while the agent talks; it should go on."""
        await self._story(caller, "talk")
        await asyncio.sleep(self._chance.uniform(0.5, 4))
        clip, turn_id = self._chance.choice(self._plan.noises), caller.loudspeaker.turn_id
        began = await caller.say(clip.sound)
        held = await caller.event("turn.held", began, 1.5, turn_id=turn_id)
        ended = await caller.event("turn.ended", began, 2.5, turn_id=turn_id)
        if self._dropped:
            return
        self._counts["coughs"] += 1
        self._counts["coughs that ended the turn"] += ended is not None
        if held is not None and ended is None:
            resumed = await caller.event("turn.resumed", held, 3, turn_id=turn_id)
            if resumed is not None:
                self._figures.setdefault("held → resumed", []).append(1000 * (resumed - held))
            elif not self._dropped:
                self._counts["holds for ever"] += 1

    async def _listen(self, caller: Caller) -> None:
        """Listen to an answer to its end."""
        at = await self._story(caller, "talk briefly")
        await caller.event("turn.ended", at - 0.001, 2 * PATIENCE_S)

    async def _settle(self, caller: Caller, checks: Checks) -> None:
        """End everything that is open; a turn without an end then hangs."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        await caller.ask("stop")
        if await caller.event("turn.ended", at, PATIENCE_S, status="completed") is None:
            self._counts["no answer to stop"] += 1
        deadline = loop.time() + PATIENCE_S
        while checks.open and loop.time() < deadline:
            await asyncio.sleep(0.05)
        self._counts["turns hung"] += len(checks.open)
