"""μ-law and A-law by tables, and other rates as a stream."""

from __future__ import annotations

import numpy as np
import pytest

from bargein_server.voice.sound import Resampler, bytes_per_sample, decoded, encoded


def test_mulaw_of_every_sample_comes_back_close() -> None:
    """G.711 keeps 14 bits in a code of 8: each step is a sixteenth of its size, and a code is stable."""
    linear = np.arange(-32768, 32768, dtype="<i2")
    codes = encoded(linear.astype(np.float32) / np.float32(32768), "mulaw")
    back = np.rint(decoded(codes, "mulaw") * 32768).astype(int)
    allowed = np.maximum(np.abs(linear.astype(int)) / 16, 12)
    loud = np.abs(linear.astype(int)) > 4 * 8158 - 4  # clipped
    assert np.all(np.abs(back - linear)[~loud] <= allowed[~loud])
    assert encoded(decoded(codes, "mulaw"), "mulaw") == codes


@pytest.mark.parametrize(
    ("linear", "code"), [(0, 0xFF), (-1, 0x7E), (32767, 0x80), (-32768, 0x00), (1000, 0xCE), (-1000, 0x4E)]
)
def test_codes_are_those_of_the_standard(linear: int, code: int) -> None:
    """Reference values of G.711."""
    assert encoded(np.array([linear / 32768], dtype=np.float32), "mulaw") == bytes([code])


@pytest.mark.parametrize(
    ("linear", "code"),
    [(0, 0xD5), (-1, 0x55), (32767, 0xAA), (-32768, 0x2A), (1000, 0xFA), (-1000, 0x7A), (256, 0xC5)],
)
def test_codes_of_a_law(linear: int, code: int) -> None:
    """Reference values of G.711; each code is stable, and close to its sample."""
    assert encoded(np.array([linear / 32768], dtype=np.float32), "alaw") == bytes([code])
    codes = bytes(range(256))
    assert encoded(decoded(codes, "alaw"), "alaw") == codes
    every = np.arange(-32768, 32768, dtype="<i2")
    back = np.rint(decoded(encoded(decoded(every.tobytes(), "pcm16"), "alaw"), "alaw") * 32768).astype(int)
    assert np.all(np.abs(back - every) <= np.maximum(np.abs(every.astype(int)) / 16, 16))


def test_pcm_is_kept_bit_by_bit_and_clipped() -> None:
    """Sound that is decoded and encoded is the same; louder than full scale has no wrap."""
    pcm = np.arange(-32768, 32768, 7, dtype="<i2").tobytes()
    assert encoded(decoded(pcm, "pcm16")) == pcm
    assert encoded(np.array([2.0, -2.0], dtype=np.float32)) == b"\xff\x7f\x00\x80"
    assert (bytes_per_sample("pcm16"), bytes_per_sample("mulaw")) == (2, 1)


@pytest.mark.parametrize(("before", "after"), [(8_000, 16_000), (24_000, 16_000), (48_000, 16_000)])
def test_a_stream_in_pieces_keeps_pitch_and_length(before: int, after: int) -> None:
    """Twenty milliseconds at a time, at most 3 ms late, and no alias of a tone above the new band."""
    times = np.arange(before) / before
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    stream, size = Resampler(before, after), before // 50
    pieces = [stream.resampled(tone[at : at + size]) for at in range(0, before, size)]
    sound = np.concatenate(pieces)
    assert 0 <= after - len(sound) <= after * 0.003
    spectrum = np.abs(np.fft.rfft(sound[after // 10 : after // 10 + after // 2]))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2
    if before > after:
        high = np.sin(2 * np.pi * 10_000 * times).astype(np.float32)
        assert np.abs(Resampler(before, after).resampled(high)[500:]).max() < 0.001


def test_equal_rates_change_nothing() -> None:
    """And load no library."""
    sound = np.ones(10, dtype=np.float32)
    assert Resampler(16_000, 16_000).resampled(sound) is sound
