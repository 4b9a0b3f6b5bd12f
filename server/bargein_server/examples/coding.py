"""Code that is checked while the model writes it, and cut at an error.

    bargein-server bargein_server.examples.coding:agent

Each line that the model completes is compiled with the unfinished statement before it; nothing is executed.
An error ends the model's stream at once, instead of after the rest of a broken program. The model then gets
the program up to the broken statement with the error, and goes on from there. At the end the imports are
looked up.
"""

from __future__ import annotations

import ast
import codeop
import re
import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.util import find_spec

from bargein_server.agent import Message, Output, Turn

from .model import Model, with_model

MAX_REPAIRS = 2
MAX_CHARS = 60_000
CHECKED_LINES = 60
"""Lines of a statement that are checked one by one; in a longer class, each method is checked at its end."""

writer: Model = Model(
    "You write Python programs. Say in one sentence what you write, then give the whole program in one block "
    "that begins with ```python and ends with ```, then stop. Use the standard library unless you are asked "
    "for another one."
)

_CONTINUES = re.compile(r"[\s)\]}#]|(else|elif|except|finally|case)\b|$")


class Checker:
    """Check of a Markdown answer that grows: of its first block of Python.

    Attributes:
        good: Lines of the program that belong to finished statements.
        fault: Error in the statement that is being written; None so far.
        lines: Number of the program's lines so far.
    """

    def __init__(self, good: list[str] | None = None) -> None:
        self.good: list[str] = list(good or ())
        self.fault: str | None = None
        self.lines: int = len(self.good)
        self._start = self.lines
        self._statement: list[str] = []
        self._unread = ""
        self._inside: bool | None = None  # None before the block, False after it

    @property
    def inside(self) -> bool:
        """Whether the answer is in the block."""
        return self._inside is True

    @property
    def complete(self) -> bool:
        """Whether the block was closed."""
        return self._inside is False

    def feed(self, text: str) -> None:
        """Read more of the answer; check each line that it completes."""
        self._unread += text
        while "\n" in self._unread and self.fault is None and not self.complete:
            line, _, self._unread = self._unread.partition("\n")
            if line.strip().startswith("```"):
                closing = self.inside
                self._inside = not closing
                if closing:
                    self._finish()
            elif self._inside:
                self._read(line)

    def close(self) -> None:
        """Check the rest at the end of the answer."""
        if self._unread and not self.complete and self.fault is None:
            self.feed("\n")
        if self._inside and self.fault is None:
            self._finish()

    def _read(self, line: str) -> None:
        if self.lines == self._start and self.good[:1] == [line]:
            self.good, self.lines = [], 0  # the model begins again, instead of going on
        self.lines += 1
        if self._statement and not _CONTINUES.match(line) and is_statement("\n".join(self._statement)):
            self.good += self._statement
            self._statement = []
        self._statement.append(line)
        if len(self._statement) <= CHECKED_LINES or not line.startswith(" " * 5):
            self.fault = fault_in("\n".join(self._statement), self.lines - len(self._statement))

    def _finish(self) -> None:
        source = "\n".join(self._statement)
        if is_statement(source):
            self.good += self._statement
        else:
            self.fault = f"line {self.lines}: the program ends in the middle of a statement"


def fault_in(source: str, lines_before: int = 0) -> str | None:
    """Return the syntax error in a text; None for a program's beginning."""
    if source.endswith("\\"):
        return None  # the line goes on; `codeop` takes that for an error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codeop.compile_command(f"{source}\n", "<answer>", "exec")
    except SyntaxError as error:
        return f"line {lines_before + (error.lineno or 1)}: {error.msg}"
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        return f"line {lines_before + 1}: {type(error).__name__}"
    return None


def is_statement(source: str) -> bool:
    """Return whether a text consists of whole statements."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def report(program: str) -> str:
    """Return a sentence on a program: definitions, and missing imports."""
    tree = ast.parse(program)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [f"`{node.name}`" for node in tree.body if isinstance(node, kinds)]
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module and not node.level}  # fmt: skip
    missing = sorted({name.partition(".")[0] for name in imports if not _installed(name.partition(".")[0])})
    text = f"\n\nChecked: {len(program.splitlines())} lines compile"
    text += f", with {', '.join(names)}." if names else "."
    return text + (f" Not installed here: {', '.join(missing)}." if missing else "")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None  # looks a top-level module up, without an import
    except ValueError:
        return True  # a module without a specification, such as `__main__`


@with_model
async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Write a program, and check it line by line."""
    messages: list[Message] = turn.history.messages(max_tokens=6000)
    checker = Checker()
    for attempt in range(MAX_REPAIRS + 1):
        written = ""
        async with aclosing(writer.aside(turn, messages)) as outputs:
            async for output in outputs:
                yield output
                if not isinstance(output, str):
                    continue
                written += output
                before = checker.lines
                checker.feed(output)
                if checker.lines // 5 > before // 5:
                    yield turn.progress(checker.lines, unit="lines", label="checked")
                if checker.fault or checker.complete or len(written) > MAX_CHARS:
                    break  # closes the model's stream
        checker.close()
        if checker.inside:
            yield "```" if written.rstrip(" ").endswith("\n") else "\n```"
        if checker.fault is None:
            break
        yield turn.status(f"Does not compile: {checker.fault}", "warning")
        if attempt == MAX_REPAIRS:
            yield f"\n\nI give up: {checker.fault}."
            return
        good = "\n".join(checker.good)
        yield f"\n\nThat does not compile ({checker.fault}). From there again:\n\n"
        messages = [*messages, *_repair(good, checker.fault)]
        checker = Checker(checker.good)
    if checker.good:
        yield turn.progress(checker.lines, checker.lines, "lines", "checked")
        yield report("\n".join(checker.good))


def _repair(good: str, fault: str) -> list[Message]:
    request = (
        f"Your program broke off after this, with a syntax error in {fault}. Write the rest of it from here "
        "on, in one block, without the part that is there already."
    )
    return [
        {"role": "assistant", "content": f"```python\n{good}\n```"},
        {"role": "user", "content": request},
    ]
