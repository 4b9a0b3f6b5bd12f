"""The core of the Python client against a server that sends any event in any order."""

from __future__ import annotations

import json

from hostile_conversation import Conversation, Played
from seeded_fuzzing import Target, day_and_night

STEPS = 60


def check(data: bytes) -> None:
    """Take the steps of a conversation; no error but the client's own."""
    Played().play([json.loads(step) for step in data.splitlines()])


@day_and_night
def test_python(night: bool) -> None:
    """Whatever the server sends."""
    target = Target("core", night, lines=True)
    for data in target.inputs(0):
        target.check(data, check)
    for _ in range(2500 if night else 200):
        target.check(Conversation(target.chance).encoded(STEPS), check)
