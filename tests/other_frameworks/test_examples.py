"""The examples of the guide, cut at the places of the adapters; for an environment that has the framework.

`test_environments` installs each framework in an environment of its own and runs this file there.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from nine_places import PLACES, Place, check_cut, check_speed, scene
from other_frameworks import OTHERS, OtherFramework

LIMIT_S = 0.1

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks use what their own dependencies deprecate


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


INSTALLED = [framework for framework in OTHERS if _is_installed(framework.module)]
CASES = [
    (framework, place)
    for framework in INSTALLED
    for place in PLACES
    if place.reach.__name__ not in framework.without
]


def _id(value: OtherFramework | Place) -> str:
    return value.module if isinstance(value, OtherFramework) else value.reach.__name__


@pytest.mark.parametrize(("framework", "place"), CASES, ids=_id)
async def test_a_cut_turn_is_told_as_it_was(framework: OtherFramework, place: Place) -> None:
    """The model is closed, no tool begins later, and both later requests are accepted and true."""
    async with scene(framework.maker, place, framework.model) as here:
        await check_cut(here, place)


@pytest.mark.alone
@pytest.mark.parametrize(("framework", "place"), [case for case in CASES if case[1].open], ids=_id)
async def test_the_models_stream_is_closed_within_100_ms(framework: OtherFramework, place: Place) -> None:
    """Wherever the turn is cut, at the socket."""
    async with scene(framework.maker, place, framework.model) as here:
        await check_speed(here, LIMIT_S)
