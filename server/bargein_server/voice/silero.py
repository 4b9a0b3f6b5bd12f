"""Detector of speech with Silero VAD 6, for many sessions in one call.

Of the files in the package `silero-vad` this takes `silero_vad_16k_op15.onnx`, whose batch axis is sessions.
The package itself is not imported, because it needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .interfaces import RATE
from .weights import require, weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .interfaces import Samples

FRAME_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_STATE_SIZE = 128


class _State:
    """State of one session: the network's, and the end of the last frame."""

    __slots__ = ("context", "network")

    def __init__(self, network: NDArray[np.float32], context: Samples) -> None:
        self.network = network
        self.context = context


class SileroDetector:
    """Detector with Silero VAD (MIT): 0.1 ms of a processor per 32 ms frame.

    The model is loaded here, in about 20 ms.

    Attributes:
        frame_samples: 512, which are 32 ms.

    Raises:
        NotInstalled: onnxruntime or the model is missing.
    """

    frame_samples: int = FRAME_SAMPLES

    def __init__(self) -> None:
        require("numpy", "onnxruntime")
        path = weights("silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx")
        import numpy
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # More threads, and spinning ones, would take the processors of the event loop and gain nothing.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._model: Any = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._numpy = numpy
        self._rate = numpy.array(RATE, dtype=numpy.int64)

    def open(self) -> object:
        """Return the state of a new session: 1.2 KB."""
        numpy = self._numpy
        return _State(
            numpy.zeros((2, _STATE_SIZE), dtype=numpy.float32),
            numpy.zeros(_CONTEXT_SAMPLES, dtype=numpy.float32),
        )

    def speech(self, frames: Sequence[tuple[object, Samples]]) -> list[float]:
        """Return each frame's probability of speech; states change in place."""
        numpy = self._numpy
        count = len(frames)
        sound = numpy.empty((count, _CONTEXT_SAMPLES + FRAME_SAMPLES), dtype=numpy.float32)
        network = numpy.empty((2, count, _STATE_SIZE), dtype=numpy.float32)
        for row, (state, frame) in enumerate(frames):
            assert isinstance(state, _State)
            sound[row, :_CONTEXT_SAMPLES] = state.context
            sound[row, _CONTEXT_SAMPLES:] = frame
            network[:, row] = state.network
        probabilities, network = self._model.run(None, {"input": sound, "state": network, "sr": self._rate})
        for row, (state, _) in enumerate(frames):
            assert isinstance(state, _State)
            # Copies: a view would keep the arrays of the whole batch.
            state.context = sound[row, -_CONTEXT_SAMPLES:].copy()
            state.network = network[:, row].copy()
        return [float(probability) for probability in probabilities[:, 0]]
