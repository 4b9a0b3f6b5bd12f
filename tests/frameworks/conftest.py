"""The frameworks are installed beside the pinned versions alone (scripts/setup_tests)."""

from __future__ import annotations

from importlib.util import find_spec

FRAMEWORKS = ("agents", "langchain", "langchain_openai", "langgraph", "pydantic_ai")

collect_ignore_glob = [] if all(map(find_spec, FRAMEWORKS)) else ["test_*.py"]
