"""Reader of a container file, for tests that run its commands as processes."""

from __future__ import annotations

import json
import re


class ContainerFile:
    """Instructions of a container file.

    Attributes:
        stages: For each stage the names and arguments of its instructions.
    """

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
        self.stages: list[list[tuple[str, str]]] = []
        for line in filter(None, joined.splitlines()):
            name, _, words = line.partition(" ")
            if name == "FROM":
                self.stages.append([])
            self.stages[-1].append((name, words))

    def value(self, name: str) -> str:
        """Return the argument of an instruction of the last stage."""
        (found,) = [words for instruction, words in self.stages[-1] if instruction == name]
        return found

    def command(self, name: str) -> list[str]:
        """Return the words of an instruction in exec form."""
        value = self.value(name)
        words: list[str] = json.loads(value[value.index("[") :])
        return words

    def environment(self) -> dict[str, str]:
        """Return the variables of the last stage."""
        return dict(pair.split("=", 1) for pair in self.value("ENV").split())
