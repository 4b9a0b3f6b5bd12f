"""Words that two readings of a growing sound agree on."""

from __future__ import annotations

import pytest

from bargein_server.voice.agreement import Agreement


@pytest.mark.parametrize(
    ("readings", "texts"),
    [
        (["Why are", "Why are you", "Why are you here"], ["", "Why are", "Why are you"]),
        (["Why are.", "why, are you"], ["", "why, are"]),
        (["Stop", "", "Stop it", "Stop it"], ["", "", "", "Stop it"]),
        (
            ["I see", "I see the", "I sea the boat", "I sea the boat"],
            ["", "I see", "I see", "I see the boat"],
        ),
        (["はい、でも", "はい、でもちょっと"], ["", "はい、でも"]),
        (["...", "... no"], ["", "..."]),
    ],
)
def test_agreed_words(readings: list[str], texts: list[str]) -> None:
    """Case and punctuation are no matter, agreed words stay, a reading of no use breaks the agreement."""
    agreement = Agreement()
    assert [agreement.add(reading) for reading in readings] == texts
