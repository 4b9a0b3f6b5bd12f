"""Sound as bytes and arrays: PCM16, μ-law, A-law, and other rates.

A `Resampler` is a stream with a delay of 1 to 3 ms. `soxr` streams with 10 to 85 ms, and linear interpolation
mirrors what is above half of the new rate into the band of speech.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from .weights import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .interfaces import Samples

Encoding = Literal["pcm16", "mulaw", "alaw"]

_BIAS = 33
_CLIP = 8158
_FULL_SCALE = 32768


def encoding_named(name: str) -> Encoding:
    """Return the encoding of a format that was granted."""
    return name if name in ("mulaw", "alaw") else "pcm16"  # type: ignore[return-value]  # of the three


def bytes_per_sample(encoding: Encoding) -> int:
    """Return the size of a sample."""
    return 2 if encoding == "pcm16" else 1


def decoded(audio: bytes, encoding: Encoding) -> Samples:
    """Return the samples of encoded mono sound.

    Args:
        audio: PCM16 little-endian of even length, or μ-law or A-law (G.711).
        encoding: Its encoding.
    """
    import numpy

    if encoding != "pcm16":
        decoder = _mulaw_decoder() if encoding == "mulaw" else _alaw_decoder()
        linear = decoder[numpy.frombuffer(audio, dtype=numpy.uint8)]
    else:
        linear = numpy.frombuffer(audio, dtype="<i2")
    return linear.astype(numpy.float32) / numpy.float32(_FULL_SCALE)


def encoded(sound: Samples, encoding: Encoding = "pcm16") -> bytes:
    """Return samples as encoded mono sound, clipped at full scale."""
    import numpy

    linear = numpy.clip(numpy.rint(sound * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    if encoding != "pcm16":
        encoder = _mulaw_encoder() if encoding == "mulaw" else _alaw_encoder()
        return encoder[linear.view(numpy.uint16)].tobytes()
    return linear.tobytes()


@cache
def _mulaw_decoder() -> NDArray[np.int16]:
    """Return the linear value of each code of G.711."""
    import numpy

    code = ~numpy.arange(256, dtype=numpy.uint8)
    exponent, mantissa = ((code >> 4) & 7).astype(int), (code & 15).astype(int)
    size = (((mantissa << 1) + _BIAS) << exponent) - _BIAS
    linear: NDArray[np.int16] = (numpy.where(code & 0x80, -size, size) << 2).astype(numpy.int16)
    return linear


@cache
def _mulaw_encoder() -> NDArray[np.uint8]:
    """Return the code of G.711 for each PCM16 value, as an unsigned number."""
    import numpy

    linear = numpy.arange(65536, dtype=numpy.uint16).view(numpy.int16).astype(int)
    size = numpy.minimum(numpy.abs(linear >> 2), _CLIP) + _BIAS
    exponent = numpy.clip(numpy.floor(numpy.log2(size)).astype(int) - 5, 0, 7)
    sign = numpy.where(linear < 0, 0x80, 0)
    code = sign | (exponent << 4) | ((size >> (exponent + 1)) & 15)
    inverted: NDArray[np.uint8] = ~code.astype(numpy.uint8)
    return inverted


@cache
def _alaw_decoder() -> NDArray[np.int16]:
    """Return the linear value of each code of A-law."""
    import numpy

    code = numpy.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 15) << 4
    size = numpy.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << numpy.maximum(exponent - 1, 0))
    linear: NDArray[np.int16] = numpy.where(code & 0x80, size, -size).astype(numpy.int16)
    return linear


@cache
def _alaw_encoder() -> NDArray[np.uint8]:
    """Return the code of A-law for each PCM16 value, as an unsigned number."""
    import numpy

    linear = numpy.arange(65536, dtype=numpy.uint16).view(numpy.int16).astype(int) >> 3
    size = numpy.where(linear >= 0, linear, -linear - 1)
    exponent = numpy.clip(numpy.floor(numpy.log2(numpy.maximum(size, 1))).astype(int) - 4, 0, 7)
    code = (exponent << 4) | ((size >> numpy.maximum(exponent, 1)) & 15)
    masked: NDArray[np.uint8] = (code ^ numpy.where(linear >= 0, 0xD5, 0x55)).astype(numpy.uint8)
    return masked


class Resampler:
    """Stream of mono sound at another rate, by libsamplerate.

    Args:
        before: Samples per second of the input.
        after: Samples per second of the output.

    Raises:
        NotInstalled: `samplerate` is missing, and the rates differ.
    """

    def __init__(self, before: int, after: int) -> None:
        self._ratio = after / before
        self._stream: Any = None
        if before != after:
            require("samplerate")
            import samplerate

            self._stream = samplerate.Resampler("sinc_fastest", channels=1)

    def resampled(self, sound: Samples, *, last: bool = False) -> Samples:
        """Return the complete sound; 20 ms cost 0.05 ms of a processor.

        Args:
            sound: The next samples.
            last: Whether the stream ends, so that the rest comes out too.
        """
        if self._stream is None:
            return sound
        out: Samples = self._stream.process(sound, self._ratio, end_of_input=last)
        return out
