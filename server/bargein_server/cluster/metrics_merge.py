"""Metrics of several processes as one text in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

_HELP = "# HELP "


def merged(texts: Iterable[tuple[str, str]]) -> str:
    """Return the samples of all processes, each with its label `worker`.

    All samples of one metric follow each other, as the format asks for.

    Args:
        texts: The name of each process, and its metrics.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in texts:
        label = f'worker="{worker}"'
        name = ""
        for line in text.splitlines():
            if line.startswith(_HELP):
                name = line.split(" ", 3)[2]
                samples.setdefault(name, [])
            if line.startswith("#"):
                head = heads.setdefault(name, [])
                if line not in head and len(head) < 2:
                    head.append(line)
            elif line:
                samples[name].append(_labelled(line, label))
    return "".join(f"{line}\n" for name, head in heads.items() for line in (*head, *samples[name]))


def _labelled(sample: str, label: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"
