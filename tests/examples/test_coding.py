"""Code that is checked while it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bargein_server.examples.coding import MAX_REPAIRS, Checker, agent, report
from example_client import talking
from model_server import Upstream
from scripted_model import say

GOOD = "Here it is.\n```python\nimport json\n\n\ndef load(text):\n    return json.loads(text)\n```\n"
BROKEN = "Here it is.\n```python\nimport json\n\ndef load(text:\n    return json.loads(text)\n"
REST = "```python\ndef load(text):\n    return json.loads(text)\n```\n"


def checked(answer: str, size: int = 1) -> Checker:
    """Feed an answer in pieces of a size."""
    checker = Checker()
    for start in range(0, len(answer), size):
        checker.feed(answer[start : start + size])
    checker.close()
    return checker


async def test_a_program_that_compiles(upstream: Upstream) -> None:
    """It streams as it comes, a sentence about it follows, and the model is closed after the block."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Parse JSON")
        call = await talk.call()
        call.open()
        for line in GOOD.splitlines(keepends=True):
            call.text(line)
        ended = await talk.ended()
        assert await call.gone() == "eof"
    assert ended["status"] == "completed"
    assert talk.said() == GOOD + "\n\nChecked: 5 lines compile, with `load`."


async def test_the_model_is_cut_at_the_first_broken_line(upstream: Upstream) -> None:
    """Its stream is closed there; the next request has the good part and the error, the answer goes on."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Parse JSON")
        call = await talk.call()
        call.open()
        call.text(BROKEN)
        assert await call.gone() == "eof"
        repair = await talk.call()
        good, request = repair.body["messages"][-2:]
        assert good == {"role": "assistant", "content": "```python\nimport json\n\n```"}
        assert "line 3: " in request["content"]
        repair.answer(REST)
        assert (await talk.ended())["status"] == "completed"
        assert talk.said().endswith("Checked: 4 lines compile, with `load`.")
        assert talk.said().count("```") == 4
        assert [s["message"] for s in talk.of("status")][-1].startswith("Does not compile: line 3")


async def test_an_interrupt_in_the_repair(upstream: Upstream) -> None:
    """The repair is closed, and the next model sees what was shown, marked."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Parse JSON")
        call = await talk.call()
        call.open()
        call.text(BROKEN)
        repair = await talk.call()
        repair.open()
        repair.text("```python\ndef load(te")
        await talk.text("again:\n\n```python\ndef load(te")
        await talk.interrupt()
        assert await repair.gone() == "eof"
        await talk.ask("shorter")
        messages = await talk.answer(say("Sorry, no program."))
        assert (await talk.ended())["status"] == "completed"
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"].endswith("def load(te [interrupted]")


async def test_a_model_that_cannot_do_it(upstream: Upstream) -> None:
    """After some repairs the answer says so, and is complete."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Parse JSON")
        for _ in range(MAX_REPAIRS + 1):
            call = await talk.call()
            call.open()
            call.text("```python\n1 +* 2\n")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said().endswith("I give up: line 1: invalid syntax.")


async def test_nothing_is_executed(upstream: Upstream, tmp_path: Path) -> None:
    """Neither the program nor its imports."""
    marker = tmp_path / "executed"
    program = f"```python\nopen({str(marker)!r}, 'w')\nimport this, not_there\n```\n"
    async with talking(agent, upstream) as talk:
        await talk.ask("Write a file")
        await talk.answer(say(program))
        await talk.ended()
        assert talk.said().endswith("Checked: 2 lines compile. Not installed here: not_there.")
    assert not marker.exists()


@pytest.mark.parametrize(
    "module", [json.__file__, json.decoder.__file__, __file__, Path(report.__code__.co_filename)]
)
def test_no_beginning_of_a_good_program_is_a_fault(module: str) -> None:
    """Line by line, in a whole module; all its statements are found."""
    source = Path(module).read_text("utf-8").replace("```", "'''")
    checker = Checker()
    checker.feed("```python\n")
    for line in source.splitlines(keepends=True):
        checker.feed(line)
        assert checker.fault is None, line
    checker.feed("```\n")
    assert "\n".join(checker.good) == source.rstrip("\n")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_do_not_matter(size: int) -> None:
    """The result is the same, however the answer is cut into chunks."""
    assert checked(GOOD, size).good == [
        "import json",
        "",
        "",
        "def load(text):",
        "    return json.loads(text)",
    ]
    assert checked(BROKEN, size).fault == checked(BROKEN).fault


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("x = (1,\n", "line 1: the program ends in the middle of a statement"),
        ("def f():\n", "line 1: the program ends in the middle of a statement"),
        ("if x:\n    y\n  z\n", "line 3: unindent does not match any outer indentation level"),
        ("x = '\0'\n", "line 1: source code string cannot contain null bytes"),
        ("return 1\n", "line 1: 'return' outside function"),
    ],
)
def test_faults(code: str, fault: str) -> None:
    """A program that ends too early, and what Python says of others."""
    assert checked(f"```python\n{code}```\n").fault == fault


def test_a_model_that_begins_again() -> None:
    """Instead of going on, it writes the whole program: the old beginning is dropped."""
    checker = Checker(["import json", "x = 1"])
    checker.feed("```python\nimport json\ny = 2\n```\n")
    assert checker.good == ["import json", "y = 2"]


def test_an_answer_without_a_fence_at_its_end() -> None:
    """The program ends with the answer."""
    checker = checked("```python\nx = 1")
    assert (checker.good, checker.inside) == (["x = 1"], True)


def test_long_classes_are_checked_by_the_method() -> None:
    """So that the cost stays in proportion; a fault is found at the next method at the latest."""
    methods = [f"    def m{n}(self):\n        return (\n            {n})\n" for n in range(300)]
    fault = "```python\nclass A:\n" + "".join(methods) + "        x = = 1\n    def last(self):\n"
    checker = checked(fault, 1000)
    assert checker.fault == "line 902: invalid syntax"
