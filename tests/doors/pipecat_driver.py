"""Drives a pipeline of Pipecat with its OpenAI Realtime service as it is, by lines of JSON.

It runs in `.venv-clients` (scripts/setup_clients). The user speaks: the server detects turns.
"""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

from json_answers import answer, until

RATE = 24_000


class Heard(FrameProcessor):  # type: ignore[misc]
    """What comes out of the pipeline.

    Attributes:
        text: The words of the answers.
        sound: How many bytes of sound came.
        ends: How many responses have ended.
        interruptions: How many interruptions of the user's speech have passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sound = 0
        self.ends = 0
        self.interruptions = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note a frame and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            self.text += frame.text
        elif isinstance(frame, TTSAudioRawFrame):
            self.sound += len(frame.audio)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.ends += 1
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        await self.push_frame(frame, direction)


class Driver:
    """The steps."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.called: list[Any] = []
        self.cut_at = 0.0

    async def connect(self, url: str) -> None:
        """Start the pipeline."""
        locate = FunctionSchema("locate", "Tell where the user is.", {}, [])
        self.context = LLMContext([{"role": "user", "content": "hello"}], [locate])
        properties = events.SessionProperties(
            audio=events.AudioConfiguration(
                input=events.AudioInput(
                    transcription=events.InputAudioTranscription(), turn_detection=events.TurnDetection()
                )
            )
        )
        self.service = OpenAIRealtimeLLMService(
            api_key="none",
            base_url=url,
            settings=OpenAIRealtimeLLMService.Settings(
                session_properties=properties, system_instruction="Be kind."
            ),
        )
        self.service.register_function("locate", self._locate)
        self.service.add_event_handler("on_error", self._note)
        self.service.add_event_handler("on_conversation_item_updated", self._updated)
        self.heard = Heard()
        aggregators = LLMContextAggregatorPair(self.context)
        pipeline = Pipeline([aggregators.user(), self.service, self.heard, aggregators.assistant()])
        self.worker = PipelineWorker(pipeline, enable_rtvi=False)
        self.worker.add_event_handler("on_pipeline_error", self._note)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        self.running = asyncio.create_task(runner.run())

    async def _note(self, source: Any, error: ErrorFrame) -> None:
        self.errors.append(str(error))

    async def _updated(self, source: Any, item_id: str, item: Any) -> None:
        if item.status == "incomplete" and not self.cut_at:
            self.cut_at = time.perf_counter()

    async def _locate(self, parameters: Any) -> None:
        self.called.append(dict(parameters.arguments))
        await parameters.result_callback("Oslo")

    async def send(self, seen: str) -> dict[str, Any]:
        """Let the model answer the context."""
        self.heard.text = ""
        await self.worker.queue_frames([LLMRunFrame()])
        return await self._answered(seen)

    async def _answered(self, seen: str) -> dict[str, Any]:
        ends = self.heard.ends
        await until(lambda: (seen in self.heard.text and self.heard.ends > ends) or self.errors)
        assert not self.errors, self.errors
        return {"text": self.heard.text, "called": self.called}

    async def _queue(self, pieces: list[str]) -> None:
        for piece in pieces:
            await self.worker.queue_frame(InputAudioRawFrame(base64.b64decode(piece), RATE, 1))

    async def _speak(self, pieces: list[str], silence: list[str]) -> None:
        """Say something, and be silent once Pipecat knows of it.

        Its interruption for the start of speech drops the frames that wait in its pipeline. After sound that
        comes faster than a user speaks the answer is there first, and the result of a function is dropped.
        """
        interruptions = self.heard.interruptions
        await self._queue(pieces)
        await until(lambda: self.heard.interruptions > interruptions or self.errors)
        await self._queue(silence)

    async def speak(self, pieces: list[str], silence: list[str], seen: str) -> dict[str, Any]:
        """Say something, and return the answer, which has a text."""
        self.heard.text = ""
        await self._speak(pieces, silence)
        return await self._answered(seen)

    async def begin(self, pieces: list[str], silence: list[str], sound: int) -> None:
        """Say something, and wait for so much sound of the answer."""
        before = self.heard.sound
        await self._speak(pieces, silence)
        await until(lambda: self.heard.sound >= before + sound)

    async def interrupt(self, pieces: list[str], silence: list[str], seen: str) -> dict[str, Any]:
        """Speak over an answer; return the next one, and the time until the server ended the first."""
        self.cut_at, began = 0.0, time.perf_counter()
        answered = await self.speak(pieces, silence, seen)
        await until(lambda: self.cut_at)
        return {**answered, "took": self.cut_at - began}

    async def reconnect(self) -> None:
        """Begin a new connection with the conversation, as Pipecat's documentation has it."""
        await self.service.reset_conversation()

    async def state(self) -> dict[str, Any]:
        """Return the pipeline's context and errors."""
        return {"messages": self.context.get_messages(), "errors": self.errors}

    async def close(self) -> None:
        """End the pipeline."""
        await self.worker.cancel()
        await self.running


async def main() -> None:
    """Answer steps."""
    driver = Driver()
    names = ("connect", "send", "speak", "begin", "interrupt", "reconnect", "state", "close")
    await answer({name: getattr(driver, name) for name in names})


asyncio.run(main())
