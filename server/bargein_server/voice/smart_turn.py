"""Judge of turns with Smart Turn 3.2, by the last eight seconds' prosody."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .interfaces import RATE, VoiceError
from .mel import LogMel
from .weights import require, weights

if TYPE_CHECKING:
    from .interfaces import Samples

_WINDOW = 8 * RATE
_FILE = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
_FRAMES = 800


class SmartTurnJudge:
    """Judge with Smart Turn (BSD-2-Clause), about 50 ms of a processor a call.

    `startup` loads the model in a thread; without it the first call does.

    Raises:
        NotInstalled: onnxruntime or the model is missing; the model is in the package
            `pipecat-ai`, which is not imported.
    """

    def __init__(self) -> None:
        require("numpy", "onnxruntime")
        self._path = weights("pipecat-ai", _FILE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="smart-turn")
        self._model: Any = None
        self._features: LogMel | None = None

    async def startup(self) -> None:
        """Load the model."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def shutdown(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def complete(self, sound: Samples) -> float:
        """Return the probability that the utterance is complete.

        Args:
            sound: The utterance up to now; the last 8 s count.

        Raises:
            VoiceError: The model failed.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, sound)
        except (RuntimeError, ValueError) as error:
            raise VoiceError(f"Smart Turn failed: {type(error).__name__}") from error

    def _load(self) -> None:
        if self._model is not None:
            return
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._features = LogMel(80)
        self._model = onnxruntime.InferenceSession(
            str(self._path), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def _judge(self, sound: Samples) -> float:
        import numpy

        self._load()
        assert self._features is not None
        window = numpy.zeros(_WINDOW, dtype=numpy.float32)
        sound = sound[-_WINDOW:]
        if len(sound):
            window[-len(sound) :] = sound
        # The model was trained on sound of one loudness, silence before it included.
        window = (window - window.mean()) / numpy.sqrt(window.var() + 1e-7)
        features = self._features(window, padding=0)[None, :, :_FRAMES].astype(numpy.float32)
        return float(self._model.run(None, {"input_features": features})[0].ravel()[0])
