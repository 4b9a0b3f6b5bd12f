"""Both codecs on mutants of frames: an event that can be encoded again, or `DecodeError`, in little time."""

from __future__ import annotations

from typing import Any

import msgspec

import fuzz_seeds
from bargein_protocol import (
    CODECS,
    JSON,
    MESSAGEPACK,
    DecodeError,
    UnknownEvent,
    json_scan,
    messagepack_scan,
    negotiate,
)
from bargein_protocol.types import MAX_CLIENT_VALUES
from seeded_fuzzing import Target, day_and_night

MAX_DOUBLE = 1.7976931348623157e308


def check(data: bytes) -> None:
    """Decode as everything, and encode again what was decoded."""
    for codec in CODECS.values():
        for decode in ("decode_client", "decode_server"):
            try:
                event = getattr(codec, decode)(data)
            except DecodeError as error:
                check_error(error)
                continue
            if isinstance(event, UnknownEvent):
                continue
            for other in CODECS.values():
                again = getattr(other, decode)(other.encode(event))
                assert again == event or (other is MESSAGEPACK and plain(again) == shortened(plain(event)))
    for scan in (json_scan, messagepack_scan):
        assert isinstance(scan.structure_fault(data, MAX_CLIENT_VALUES), str | None)
    offered = data[:64].decode("latin-1").split(",")
    assert negotiate(offered) in (None, (JSON, JSON.subprotocol), (MESSAGEPACK, MESSAGEPACK.subprotocol))


def check_error(error: DecodeError) -> None:
    """Check that an error can be sent to the peer."""
    assert len(error.detail) <= 200
    assert error.ref_id is None or 1 <= len(error.ref_id) <= 128


def plain(event: Any) -> Any:
    """Return an event as JSON holds it."""
    return msgspec.json.decode(JSON.encode(event))


def shortened(value: Any) -> Any:
    """Return a JSON value with doubles for the integers that MessagePack has not."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(shortened, value))
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(max(-MAX_DOUBLE, min(MAX_DOUBLE, value)))
    return value


@day_and_night
def test_json(night: bool) -> None:
    """Mutants of JSON."""
    target = Target("json", night, seeds=fuzz_seeds.json_frames(), words=fuzz_seeds.JSON_WORDS)
    target.run(check, 140_000 if night else 12_000)


@day_and_night
def test_messagepack(night: bool) -> None:
    """Mutants of MessagePack."""
    target = Target("messagepack", night, seeds=fuzz_seeds.packed_frames(), words=fuzz_seeds.PACKED_WORDS)
    target.run(check, 140_000 if night else 12_000)
