"""Log-mel spectrogram, as Whisper and its relatives were trained with.

It is here because the packages that have it import FFmpeg with encoders under the GPL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .interfaces import Samples

WINDOW, HOP = 400, 160
"""Samples of a window, and between two windows."""
_RATE = 16_000
END_PADDING = 160
"""Silence in samples that Whisper has after its sound."""
_LINEAR_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3
_MELS_PER_LOG = 27.0 / 1.8562979903656263
"""Mels for each natural logarithm above 1000 Hz: 27 up to 6400 Hz (Slaney)."""
_MAX_MEL = 45.245640471924965
"""8000 Hz."""


class LogMel:
    """Log-mel spectrogram of sound at 16 kHz.

    Args:
        bands: Number of mel bands.
    """

    def __init__(self, bands: int) -> None:
        import numpy

        self._filters = _filters(bands)
        self._window: Samples = numpy.hanning(WINDOW + 1)[:-1].astype(numpy.float32)

    def __call__(self, sound: Samples, padding: int = END_PADDING) -> NDArray[np.float32]:
        """Return the bands of each 10 ms, as an array of bands by frames.

        Values are logarithms, at most 8 below the loudest, scaled to about -1 to 1. The sound must have at
        least 25 ms.

        Args:
            sound: The sound.
            padding: Silence that is appended, in samples.
        """
        import numpy

        padded = numpy.pad(sound, (0, padding))
        padded = numpy.pad(padded, WINDOW // 2, mode="reflect")
        frames = numpy.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
        spectrum = numpy.fft.rfft(frames * self._window, axis=-1).astype(numpy.complex64)
        power = numpy.abs(spectrum[:-1].T) ** 2
        logs = numpy.log10(numpy.maximum(self._filters @ power, 1e-10))
        scaled: NDArray[np.float32] = (numpy.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
        return scaled


def _filters(bands: int) -> NDArray[np.float32]:
    """Return each frequency's weight in each band: equal triangles (Slaney)."""
    import numpy

    mels = numpy.linspace(0.0, _MAX_MEL, bands + 2)
    above = mels - _LINEAR_HZ / _HZ_PER_MEL
    hertz = numpy.where(above < 0, _HZ_PER_MEL * mels, _LINEAR_HZ * numpy.exp(above / _MELS_PER_LOG))
    distance = hertz[:, None] - numpy.fft.rfftfreq(WINDOW, 1 / _RATE)[None, :]
    width = numpy.diff(hertz)[:, None]
    triangles = numpy.maximum(0.0, numpy.minimum(-distance[:-2] / width[:-1], distance[2:] / width[1:]))
    weights: NDArray[np.float32] = (triangles * (2.0 / (hertz[2:] - hertz[:-2]))[:, None]).astype(
        numpy.float32
    )
    return weights
