"""Nine places at which a turn of a framework's agent is cut, and what the next request says of it.

async with scene(maker, place) as here:
await check_cut(here, place)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from httpx2 import AsyncClient

from framework_agents import Desk, Maker
from live_server import RawClient, ask, serving
from model_server import Call, Upstream
from strict_model import PAUSE, Part, Said, StrictModel, call, say
from waiting import until


class Scene:
    """An agent, its model, its tools and a client."""

    def __init__(self, model: StrictModel, desk: Desk, client: RawClient) -> None:
        self.model = model
        self.desk = desk
        self.client = client
        self.turn = ""

    async def text(self, wanted: str) -> None:
        """Wait until the client has this text."""
        while "".join(frame.get("text", "") for frame in self.client.frames) != wanted:
            await self.client.receive()

    async def requests(self, number: int) -> Call:
        """Wait until the model has so many requests."""
        await until(lambda: len(self.model.answered) >= number, f"{number} requests")
        return self.model.answered[number - 1]


async def before_the_first_token(scene: Scene) -> None:
    await scene.requests(1)


async def in_the_text(scene: Scene) -> None:
    await scene.text("One two")


async def held_at_a_yield(scene: Scene) -> None:
    await scene.text("One two")
    await scene.client.send({"type": "turn.hold", "turn_id": scene.turn})
    await scene.client.until("turn.held")
    scene.model.resume()
    await asyncio.sleep(0.02)  # the rest is read, or waits in the socket: both are held


async def in_the_arguments(scene: Scene) -> None:
    await scene.client.until("tool.call.delta")
    await scene.client.until("tool.call.delta")


async def in_a_tool(scene: Scene) -> None:
    await scene.client.until("tool.running")
    await until(lambda: scene.desk.begun, "the tool")


async def in_two_tools(scene: Scene) -> None:
    await scene.client.until("tool.result")
    await until(lambda: len(scene.desk.begun) == 2, "both tools")


async def between_result_and_answer(scene: Scene) -> None:
    await scene.requests(2)
    await scene.client.until("tool.result")


async def in_the_answer(scene: Scene) -> None:
    await scene.text("It is")


async def at_a_consent(scene: Scene) -> None:
    await scene.client.until("tool.confirm")


class Place(NamedTuple):
    """Where a turn is cut.

    Args:
        reach: Waits until the turn is there.
        steps: What the model says.
        told: What the next request says about the turn, after the user's own words.
        open: Whether a request to the model is open.
    """

    reach: Callable[[Scene], Awaitable[None]]
    steps: Sequence[Sequence[Part]]
    told: Sequence[Said]
    open: bool = True


CUT: Said = ("assistant", "[interrupted]")
OSLO = call("look_up", city="Oslo")


def called(name: str, **arguments: str) -> Said:
    return ("call", name, json.dumps(arguments))


def result(text: str) -> Said:
    return ("result", text)


PLACES = [
    Place(before_the_first_token, [[PAUSE, say("One")]], [CUT]),
    Place(in_the_text, [[say("One two"), PAUSE]], [("assistant", "One two [interrupted]")]),
    Place(
        held_at_a_yield,
        [[say("One two"), PAUSE, say(" three four five six"), PAUSE]],
        [("assistant", "One two [interrupted]")],
    ),
    Place(
        in_the_arguments,
        [[call("look_up", pause_at=12, city="Oslo")]],
        [called("look_up"), result("cancelled"), CUT],
    ),
    Place(in_a_tool, [[OSLO]], [called("look_up", city="Oslo"), result("cancelled"), CUT], open=False),
    Place(
        in_two_tools,
        [[OSLO, call("look_up", city="Rome")]],
        [
            called("look_up", city="Oslo"),
            called("look_up", city="Rome"),
            result("sunny in Oslo"),
            result("cancelled"),
            CUT,
        ],
        open=False,
    ),
    Place(
        between_result_and_answer,
        [[OSLO], [PAUSE]],
        [called("look_up", city="Oslo"), result("sunny in Oslo"), CUT],
    ),
    Place(
        in_the_answer,
        [[OSLO], [say("It is"), PAUSE, say(" fine.")]],
        [
            called("look_up", city="Oslo"),
            result("sunny in Oslo"),
            ("assistant", "It is [interrupted]"),
        ],
    ),
    Place(
        at_a_consent,
        [[call("book", flight="LH1")]],
        [called("book", flight="LH1"), result("cancelled"), CUT],
        open=False,
    ),
]


@asynccontextmanager
async def scene(maker: Maker, place: Place, kind: type[StrictModel] = StrictModel) -> AsyncIterator[Scene]:
    """Ask the agent, and go to the place."""
    model, desk = kind(*place.steps), Desk()
    if place.reach is in_a_tool:
        desk.blocked.add("Oslo")
    if place.reach is in_two_tools:
        desk.blocked.add("Rome")
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, desk, http)
        async with serving(agent, hold_s=100) as server, server.connect() as client:
            here = Scene(model, desk, client)
            here.turn = await ask(client, "go")
            await place.reach(here)
            yield here


async def interrupt(here: Scene) -> None:
    await here.client.send({"type": "interrupt", "id": "x", "turn_id": here.turn})


async def ask_again(here: Scene) -> None:
    """Ask twice more: once for a tool, and once for a text."""
    here.model.steps[len(here.model.heard) :] = [
        [call("look_up", city="Bergen")],
        [say("Fine.")],
        [say("Done.")],
    ]
    for number, text in enumerate(("again", "and then?")):
        await ask(here.client, text, f"again{number}")
        ended = await here.client.until("turn.ended")
        assert (ended["status"], here.model.refusals) == ("completed", [])


async def check_cut(here: Scene, place: Place) -> None:
    """Cut the turn, ask twice more, and check what the tools did and what each request says.

    The model is closed, no tool begins later, and both later requests are accepted and true.
    """
    begun, model_call = list(here.desk.begun), here.model.answered[-1]
    assert model_call.open_now or not place.open
    await interrupt(here)
    ended = await here.client.until("turn.ended")
    assert ended["status"] == "interrupted"
    if place.open:
        assert await model_call.gone() in ("eof", "reset")
    await until(lambda: len(here.desk.cancelled) == len(here.desk.blocked), "the cancel of the tool")
    here.model.resume()
    here.desk.release()
    asked = len(here.model.heard)
    await ask_again(here)
    assert here.desk.begun == [*begun, "look_up(Bergen)"]
    told = [("user", "go"), *place.told, ("user", "again")]
    assert here.model.heard[asked] == told
    rest = [called("look_up", city="Bergen"), result("sunny in Bergen")]
    assert here.model.heard[asked + 1] == [*told, *rest]
    assert here.model.heard[asked + 2] == [*told, *rest, ("assistant", "Fine."), ("user", "and then?")]


async def check_speed(here: Scene, limit_s: float) -> None:
    """Cut the turn, and check how soon the model's stream is closed at its socket."""
    began = asyncio.get_running_loop().time()
    await interrupt(here)
    await here.model.answered[-1].gone()
    assert asyncio.get_running_loop().time() - began <= limit_s
