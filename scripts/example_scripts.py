"""Replies of the scripted model of `example_pictures.py`, by example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Messages = list[dict[str, Any]]
Reply = str | tuple[str, dict[str, Any]]
"""A text, or the name and the arguments of a tool call."""

BROKEN = '''A function, and a line that calls it for the file on the command line.

```python
import sys
from pathlib import Path


def count_words(path: str -> int:
    """Return the number of words in a text file."""
    return len(Path(path).read_text("utf-8").split())
'''

REST = '''```python
def count_words(path: str) -> int:
    """Return the number of words in a text file."""
    return len(Path(path).read_text("utf-8").split())


print(count_words(sys.argv[1]))
```
'''

TITLES = ["What pulls the sea", "Springs and neaps", "Reading a tide table"]

SECTIONS = {
    "What pulls the sea": (
        "The moon pulls the near side of the earth more than its middle, and the middle more than the"
        " far side. So the sea bulges on both sides, and the earth turns below the bulges. A coast "
        "meets two of them in a day and fifty minutes."
    ),
    "Springs and neaps": (
        "The sun pulls as well, with less than half of the moon's effect. At new and full moon both "
        "act along one line, and the tides are high. In the quarters between they pull across each "
        "other, and the tides are low. The high ones are called springs, the low ones neaps; each "
        "comes twice in a month."
    ),
    "Reading a tide table": (
        "A table gives the times of high and low water for a port, and the height of each. Between "
        "them the water follows a curve: it moves least near high and low water, and most half way. A"
        " rule of thumb divides the six hours into twelfths: one, two, three, three, two, one."
    ),
}

GERMAN = {
    "The sea is old.": "Das Meer ist alt.",
    "It has seen many ships, and it remembers all of them.": (
        "Es hat viele Schiffe gesehen, und es erinnert sich an alle."
    ),
    "Once a small boat came by.": "Einmal kam ein kleines Boot vorbei.",
    "Nobody knew where it came from.": "Niemand wusste, woher es kam.",
}

FINDINGS = {
    "topic": (
        "The reference describes `await` [1]: it suspends the coroutine until the awaitable is done. "
        "It does not say how to limit the time; that is left to the library."
    ),
    "package": (
        "The installed packages have cancel scopes of their own [1]: a scope with a deadline ends the"
        " work inside it. Their text names the event loop as the place where that happens."
    ),
    "asyncio": (
        "`asyncio.wait_for` waits for a coroutine with a timeout and cancels it when the time is over"
        " [1]. The coroutine gets a `CancelledError` at the place where it waits; `asyncio.timeout` "
        "does the same for a block."
    ),
}


def support(messages: Messages) -> Reply:
    """Look the orders up, then ask for a refund."""
    asked = max(at for at, message in enumerate(messages) if message["role"] == "user")
    results = sum(message["role"] == "tool" for message in messages[asked:])
    if results == 0:
        return "list_orders", {}
    if results == 1:
        return "refund", {"number": "A-1001"}
    return "I have paid back 49.00 EUR for the desk lamp."


def coding(messages: Messages) -> Reply:
    """Write a broken program, then the rest of a good one."""
    return REST if messages[-1]["content"].startswith("Your program broke off") else BROKEN


def document(messages: Messages) -> Reply:
    """Plan, and write the section that is asked for, or its rest."""
    question = messages[-1]["content"]
    title = next((title for title in TITLES if f": {title}" in question.partition("Write section")[2]), None)
    if title is None:
        return "\n".join(TITLES)
    there = question.partition("last word:\n\n")[2]
    return SECTIONS[title].removeprefix(there).lstrip()


def translation(messages: Messages) -> Reply:
    """Translate a sentence."""
    return GERMAN.get(messages[-1]["content"].partition("\n")[2], "…")


def research(messages: Messages) -> Reply:
    """Write down the findings of a reader, or merge them."""
    question = messages[-1]["content"]
    if "Findings of the readers" in question:
        return "Use `asyncio.wait_for` or `asyncio.timeout` (library)."
    first = question.partition("[1] ")[2].split(" ")[0]
    return FINDINGS.get(first, FINDINGS["asyncio"])


REPLIES: dict[str, Callable[[Messages], Reply]] = {
    function.__name__: function for function in (support, coding, document, translation, research)
} | {"typeahead": lambda messages: "", "analysis": lambda messages: ""}
