"""The examples are tested where their framework is installed: `test_environments` does it."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("llama_index") or find_spec("google.adk") else ["test_examples.py"]
