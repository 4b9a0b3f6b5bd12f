"""Whether the microphone has the agent's voice, from the sound sent.

Clients cancel echo, and not all of them well. The check compares how loudness moves in eight bands, which a
loudspeaker and a room change little. It runs only when speech has just begun while a turn sounds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bargein_protocol import AudioFormat

from ...voice.interfaces import RATE
from ...voice.sound import decoded, encoding_named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...voice.interfaces import Samples

STEP_S = 0.016
MICROPHONE = int(0.64 * RATE)
"""Sound of the microphone that is compared, in samples at `RATE`."""
SENT_S = 2.0
"""Sound that was sent last: what the loudspeaker may be playing, and what waits to be played."""
ALIKE = 0.6
"""Correlation from which the microphone hears the agent."""

_LEAST_STEPS = 8
_EDGES_HZ = (200, 400, 600, 900, 1200, 1700, 2300, 3000, 3800)
# About -68 dBFS: quieter sound is silence, in a microphone with noise as in sound that was synthesised.
_FLOOR = 1e-8


class EchoCheck:
    """Check of one session.

    Args:
        audio_format: Format of the sound that is sent.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._encoding = encoding_named(audio_format.encoding)
        self._sent: deque[bytes] = deque()
        self._size = 0
        self._most = audio_format.bytes_of(int(SENT_S * 1000))

    def sent(self, audio: bytes) -> None:
        """Remember sound that goes out."""
        self._sent.append(audio)
        self._size += len(audio)
        while self._size - len(self._sent[0]) >= self._most:
            self._size -= len(self._sent.popleft())

    def is_echo(self, microphone: Samples) -> bool:
        """Return whether the microphone's sound is the sent one, at any delay."""
        return self.likeness(microphone) >= ALIKE

    def likeness(self, microphone: Samples) -> float:
        """Return the highest correlation over all delays, -1 to 1; 0 if short."""
        import numpy
        from numpy.lib.stride_tricks import sliding_window_view

        heard = _loudness(microphone[-MICROPHONE:], RATE)
        sound = decoded(b"".join(self._sent)[-self._most :], self._encoding)
        sent = _loudness(sound, self._format.rate)
        steps = heard.shape[1]
        if steps < _LEAST_STEPS or sent.shape[1] < steps:
            return 0.0
        heard -= heard.mean(axis=1, keepdims=True)
        delayed = sliding_window_view(sent, steps, axis=1)  # bands, delays, steps
        delayed = delayed - delayed.mean(axis=2, keepdims=True)
        products = numpy.einsum("bs,bds->d", heard, delayed)
        size = numpy.sqrt((heard**2).sum() * (delayed**2).sum(axis=(0, 2)))
        return float((products / numpy.maximum(size, 1e-6)).max())


def _loudness(sound: Samples, rate: int) -> NDArray[np.float32]:
    """Return the logarithm of the energy by band and step."""
    import numpy

    length = int(rate * STEP_S)
    steps = len(sound) // length
    blocks = sound[len(sound) - steps * length :].reshape(steps, length)
    power = numpy.abs(numpy.fft.rfft(blocks * numpy.hanning(length).astype(numpy.float32), axis=1)) ** 2
    edges = (numpy.array(_EDGES_HZ) * length / rate).astype(int)
    bands = numpy.add.reduceat(power, edges, axis=1)[:, :-1] / length**2
    loudness: NDArray[np.float32] = numpy.log10(bands.T + _FLOOR).astype(numpy.float32)
    return loudness
