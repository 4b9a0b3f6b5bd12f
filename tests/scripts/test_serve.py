"""The script that serves a model, with what it installs and starts replaced by programs that say so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "serve"


def served(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a clone of its own."""
    programs = {
        "scripts/setup": "exit 0",
        "scripts/setup_voice": 'echo "voice: $*" >&2',
        ".venv/bin/bargein-server": 'echo "$@"',
    }
    for path, text in programs.items():
        program = folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    shutil.copy(SCRIPT, folder / "scripts" / "serve")
    named = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [folder / "scripts" / "serve", *arguments],
        env=named | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "default"),
    [
        ((), {"OPENAI_API_KEY": "k"}, True),
        (("--model", "m"), {"OPENAI_API_KEY": "k"}, False),
        ((), {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}, False),
        ((), {"OPENAI_BASE_URL": "http://localhost/v1", "OPENAI_MODEL": "m"}, False),
    ],
)
def test_a_key_is_enough(
    arguments: tuple[str, ...], variables: dict[str, str], default: bool, tmp_path: Path
) -> None:
    """The model's name is needed only for other servers; a default is told."""
    result = served(tmp_path, *arguments, **variables)
    assert result.returncode == 0
    assert result.stdout.split() == ["--agent", "openai", *arguments]
    assert ("starting with the default model" in result.stderr) is default


def test_another_server_without_a_model(tmp_path: Path) -> None:
    """It is refused, with both remedies."""
    result = served(tmp_path, OPENAI_BASE_URL="http://localhost/v1", OPENAI_API_KEY="k")
    assert result.returncode == 2
    assert "set OPENAI_MODEL or give --model NAME" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "voice"),
    [
        ((), None),
        (("--voice",), "espeak"),
        (("--voice", "piper"), "piper"),
        (("--voice=none", "--port", "9"), "none"),
        (("--turn-judge", "--voice", "--port", "9"), "espeak"),
    ],
)
def test_a_voice_is_installed_when_it_is_asked_for(
    arguments: tuple[str, ...], voice: str | None, tmp_path: Path
) -> None:
    """Before the server starts, which gets the option too."""
    result = served(tmp_path, *arguments, OPENAI_API_KEY="k")
    assert result.returncode == 0
    assert result.stdout.split() == ["--agent", "openai", *arguments]
    told = [line for line in result.stderr.splitlines() if line.startswith("voice:")]
    assert told == ([] if voice is None else [f"voice: {voice}"])
