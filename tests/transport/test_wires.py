"""Prepared headers of frames."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from bargein_server.transport.wires import HEADERS, PREPARED, header


@pytest.mark.parametrize("size", [0, 1, 125, 126, PREPARED - 1, PREPARED, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_header_is_that_of_a_whole_unmasked_message(opcode: Opcode, size: int) -> None:
    """It equals the header that `websockets` writes; short ones are prepared."""
    expected = Frame(opcode, bytes(size)).serialize(mask=False)[: -size or None]
    assert header(opcode, size) == expected
    if size < PREPARED:
        assert HEADERS[opcode][size] == expected
