"""Markdown in answers at a terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_client.cli.markdown import MAX_BLOCK_CHARS, MarkdownText
from bargein_client.cli.rich_screen import RichScreen

TEXT = """# Tides

The **moon** pulls
the `oceans`.

1. one
2. two
   - nested
3. three

```python
def tide():

    return 2
```
| a | b |
|---|---|
| 1 | 2 |

> quoted
last"""
SHOWN = [
    "Tides", "", "The moon pulls", "the oceans.", "", " 1 one", " 2 two", "    \u2022 nested", " 3 three", "",
    "def tide():", "", "    return 2", "", " a  b", " \u2500\u2500\u2500\u2500", " 1  2", "",
    "\u258c quoted", "\u258c last",
]  # fmt: skip


class Tty(io.StringIO):
    """Stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


_STYLE = re.compile("\x1b\\[[0-9;]*m")


def rendered(source: str, step: int = 7, *, colourful: bool = False, width: int = 60) -> list[str]:
    """Return the lines of a text that arrives in pieces."""
    markdown = MarkdownText(lambda: width, colourful=colourful)
    lines = []
    for start in range(0, len(source), step):
        lines += markdown.add(source[start : start + step])
    return lines + markdown.finish()


@pytest.mark.parametrize("step", [1, 3, 50, 1000])
def test_the_pieces_do_not_matter(step: int) -> None:
    """Blocks are rendered once, with one empty line between them, and none within a list."""
    assert rendered(TEXT, step) == SHOWN


def test_styles_are_sequences_of_sgr_alone() -> None:
    """Without them the text is the same; with no colours there are none."""
    coloured = rendered(TEXT, colourful=True)
    assert [_STYLE.sub("", line) for line in coloured] == SHOWN
    assert any("\x1b[1m" in line for line in coloured)
    assert "\x1b" not in "".join(rendered(TEXT))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a <b>tag</b>\n\n<div>block</div>", ["a <b>tag</b>", "", "<div>block</div>"]),
        ("![cat](http://a.example/c.png)", ["!cat (http://a.example/c.png)"]),
        ("[link](http://a.example)", ["link (http://a.example)"]),
        ("<http://a.example>", ["http://a.example"]),
        ("[x]: http://a.example", ["[x]: http://a.example"]),
        ("&#27;[31m &#x202e;x &amp; y", ["\ufffd[31m \ufffdx & y"]),
    ],
)
def test_nothing_disappears_and_nothing_gets_through(source: str, shown: list[str]) -> None:
    """Links show where they lead; references to characters make no controls."""
    assert rendered(source) == shown


def test_the_growing_block_is_shown() -> None:
    """Its last rows, rendered as far as it is known."""
    markdown = MarkdownText(lambda: 60, colourful=False)
    assert markdown.add("done\n\n**bold** and **op") == ["done"]
    assert markdown.growing(10) == ["", "bold and **op"]
    markdown.add("en**\nmore")
    assert markdown.growing(1) == ["more"]
    assert markdown.finish() == ["", "bold and open", "more"]
    assert markdown.growing(10) == []
    assert markdown.finish() == []


def test_a_block_without_an_end_is_cut() -> None:
    """Code of any length is shown in pieces and stays code; its time grows with its length alone."""
    code = "".join(f"line_{n} = '**'\n" for n in range(4 * MAX_BLOCK_CHARS // 16))
    lines = rendered(f"```python\n{code}```", 500)
    assert [line for line in lines if line] == code.splitlines()


@given(st.text(alphabet="ab *_`#>-1.\n|[]()<&!~\\", max_size=80), st.integers(1, 9))
def test_any_text_is_rendered(source: str, step: int) -> None:
    """No piece of a text raises, and no word is lost."""
    shown = "".join(rendered(source, step))
    assert sorted(c for c in shown if c in "ab") == sorted(c for c in source if c in "ab")


def test_a_terminal_without_a_prompt_draws_the_growing_block_again() -> None:
    """What is erased is as many rows as were drawn."""
    out, err = Tty(), Tty()
    screen = RichScreen(out, err)
    screen.write("text", "one\ntwo")
    screen.write("text", " **x**\n\nthree")
    screen.cut()
    screen.line("mark", "stopped")
    drawn = _STYLE.sub("", out.getvalue())
    assert drawn == "one\ntwo\r\x1b[1A\x1b[Jone\ntwo x\n\nthree\r\x1b[1A\x1b[J\nthree \u27c2\n"
    assert "stopped" in err.getvalue()
