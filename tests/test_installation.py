"""Frameworks install beside bargein in their newest versions.

pip reports no conflict when a bound is too narrow: it takes a version of the framework from a year ago.
"""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from machine import resolve
from test_supply_chain import declared

pytestmark = [pytest.mark.nightly, pytest.mark.same_everywhere]

FRAMEWORKS = (
    "google-adk", "langchain-openai", "llama-index-llms-openai", "openai-agents", "pydantic-ai-slim",
)  # fmt: skip


@pytest.mark.parametrize("extras", ["server", "server,openai,cli"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_newest_version_of_a_framework_installs_beside(framework: str, extras: str) -> None:
    """It is the one that an installer takes without bargein, and all ranges of bargein hold."""
    alone, beside = resolve(framework), resolve(framework, project=extras)
    assert alone is not None
    assert beside is not None, f"{framework} excludes the dependencies of bargein[{extras}]"
    assert beside[framework] == alone[framework]
    wrong = [str(need) for need in declared(extras.split(",")) if not holds(need, beside)]
    assert wrong == []


def holds(need: Requirement, versions: dict[str, str]) -> bool:
    """Return whether a set of versions satisfies a requirement."""
    if need.marker is not None and not need.marker.evaluate():
        return True
    return need.specifier.contains(versions[need.name.replace("_", "-")], prereleases=True)


def test_a_bound_that_is_too_narrow_is_noticed() -> None:
    """The bounds of the first release: an installer found a google-adk of a year before."""
    alone, beside = resolve("google-adk"), resolve("google-adk", "websockets>=17,<18")
    assert alone is not None
    assert beside is None or beside["google-adk"] != alone["google-adk"]
