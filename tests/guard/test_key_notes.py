"""Notes to keys, in memory and in a folder that processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bargein_server.guard import key_notes
from bargein_server.guard.key_notes import KeyNotes


@pytest.mark.parametrize("shared", [False, True])
def test_a_note_is_taken_once(tmp_path: Path, shared: bool) -> None:
    """Also by another process; a key without one has none."""
    one = KeyNotes(tmp_path if shared else None)
    other = KeyNotes(tmp_path) if shared else one
    one.put("key", b"note")
    one.put("more", b"")
    assert other.take("unknown") is None
    assert other.take("key") == b"note"
    assert one.take("key") is None
    assert one.take("more") == b""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_notes_are_bounded(tmp_path: Path, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and its file is gone."""
    monkeypatch.setattr(key_notes, "MAX_NOTES", 2)
    notes = KeyNotes(tmp_path if shared else None)
    for number in range(3):
        notes.put(f"k{number}", b"%d" % number)
    assert [notes.take(f"k{number}") for number in range(3)] == [None, b"1", b"2"]
    assert not list(tmp_path.iterdir())


def test_a_file_is_private_and_names_no_key(tmp_path: Path) -> None:
    """Its name is a hash."""
    KeyNotes(tmp_path).put("secret", b"note")
    [file] = tmp_path.iterdir()
    assert "secret" not in file.name
    assert file.stat().st_mode & 0o077 == 0
