"""Agents for the tests of the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bargein_protocol import (
    Data,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
)
from bargein_server import Output, Turn

EVIL = """\
<script>document.title = "owned"</script>
<img src=x onerror="document.title='owned'">
<svg onload="document.title='owned'"></svg>
[d](/v1/session) [e](tel:1) [f](//elsewhere.invalid/)
[a](javascript:document.title='owned') [b](JaVaScRiPt:alert(1)) [c](data:text/html,<script>1</script>)
![p](https://elsewhere.invalid/p.png) <https://safe.example/>

| <b onclick="x()">h</b> | javascript:alert(1) |
|---|---|
| <iframe src="javascript:1"></iframe> | `<script>` |

```html"><script>document.title='owned'</script>
<script>document.title = "owned"</script>
```
"""


async def chatter(turn: Turn) -> AsyncIterator[Output]:
    """Yield words for ever, or obey the user's command."""
    if turn.text == "short":
        yield "A **short** answer."
        return
    if turn.text == "recall":
        yield str(turn.history.messages(mark="")[-2]["content"])
        return
    if turn.text == "wait":
        await asyncio.Event().wait()
    if turn.text == "legal":
        async with turn.uninterruptible():
            for number in range(60):
                yield f"clause{number} "
                await asyncio.sleep(0.01)
    number = 0
    while True:
        number += 1
        yield f"word{number} "
        if turn.text != "fast" or number % 20 == 0:
            await asyncio.sleep(0.01)


async def flood(turn: Turn) -> AsyncIterator[Output]:
    """Yield 10,000 pieces of Markdown as fast as they are taken."""
    for number in range(10_000):
        if number % 250 == 0 and number < 7500:
            yield ["\n\n## Part\n\n", "\n\n- item ", "\n\n```python\n", "\n```\n\nAnd so on "][
                number // 250 % 4
            ]
        yield f"piece{number} " if number % 40 else f"piece{number}\n"
        if number % 20 == 0:
            await asyncio.sleep(0.002)


async def evil(turn: Turn) -> AsyncIterator[Output]:
    """Try to run a script in the page, through everything that it shows."""
    yield turn.status(EVIL[:60], 'x"><script>')
    yield turn.thought(EVIL)
    yield ToolCall(call_id="c1", name="<img src=x onerror=alert(1)>")  # type: ignore[arg-type]
    yield ToolCallDelta(call_id="c1", arguments='{"<script>": "<script>document.title=1</script>')  # type: ignore[arg-type]
    yield Data(name="suggestions", value=["<script>document.title='owned'</script>"])
    for start in range(0, len(EVIL), 7):
        yield EVIL[start : start + 7]
        await asyncio.sleep(0.001)


async def lonely(turn: Turn) -> AsyncIterator[Output]:
    """Call a tool that no page has, in the page."""
    call_id = turn.tools.claim()
    answer = turn.tools.expect(call_id, ToolOutput)
    yield ToolCall(call_id=call_id, name="open_garage")
    await turn.tools.begin(call_id, "open_garage", {})
    yield ToolRunning(call_id=call_id, arguments={}, runs_in="client")
    told = await answer
    turn.tools.settle(ToolResult(call_id=call_id, error=told.error, status="failed"))
    yield str(told.error)


async def sly(turn: Turn) -> AsyncIterator[Output]:
    """Ask for consent to a call whose arguments hide characters."""
    call_id = turn.tools.claim()
    decision = turn.tools.expect(call_id, ToolDecision)
    yield ToolCall(call_id=call_id, name="send_money")
    yield ToolConfirm(call_id=call_id, arguments={"to": "a\u202ebc\u200bd \U0001f469\u200d\U0001f4bb"})
    allowed = (await decision).allow
    turn.tools.settle(ToolResult(call_id=call_id, status="completed" if allowed else "cancelled"))


FORMATTED = r"""- [x] done
- [ ] to do

שלום, this begins in Hebrew

```python
def answer() -> int:
    return 42  # always
```

```nolanguage
<b>plain</b>
```

The root $x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}$ costs $5 and $10, \(\alpha\).

$$
\boxed{\int_0^1 x^2 \, dx = \frac{1}{3}}
$$

\[ \sum_{k=1}^n k = \frac{n(n+1)}{2} \]

Wrong: $\notacommand{$ and <i>tags</i> $<script>alert(1)</script>$
"""


async def formatter(turn: Turn) -> AsyncIterator[Output]:
    """Yield tasks, text from right to left, code and formulas, in small pieces."""
    for start in range(0, len(FORMATTED), 9):
        yield FORMATTED[start : start + 9]
        await asyncio.sleep(0.001)


async def counter(turn: Turn) -> AsyncIterator[Output]:
    """Repeat the input and the number of messages before it; some answers never end."""
    yield f"{turn.text} after {len(turn.history.messages()) - 1}"
    if turn.text == "wait":
        await asyncio.Event().wait()
    if turn.text == "legal":
        async with turn.uninterruptible():
            yield ", protected"
            await asyncio.sleep(3)


async def narrator(turn: Turn) -> AsyncIterator[Output]:
    """Report activity with emoji, lines of a log, and an answer with signs of Markdown."""
    yield turn.status("Packing", "\U0001f9f3")
    yield turn.status("Reading", "eye")
    yield turn.status("Guessing", "no such icon")
    yield turn.data("log", "cache is cold")
    yield turn.data("log", {"message": "slow answer", "level": "warning"})
    yield "# Title\n\nSome **bold** words, `code`, and a [link](https://safe.example/).\n\n- [x] done\n"
