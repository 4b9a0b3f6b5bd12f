"""Program that synthesises speech until its standard input ends.

`speech_program` starts it by path. It imports nothing of bargein, and bargein imports nothing of it: both
synthesisers are free software under the GPL, and this program alone uses them.

Standard input has one JSON object in a line: `{"id": 1, "text": "…"}` asks for speech, `{"cancel": 1}`
withdraws a request. Standard output has frames: a line of JSON, then `bytes` bytes of PCM16 little-endian
mono. The first frame is `{"rate": 22050, "word_times": true, "bytes": 0}`. Each further one has the `id`, the
`words` that begin (pairs of the character's position in the text and milliseconds from the beginning), and
`last` when the speech is complete. A request that fails has `error` in its last frame.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_SYNCHRONOUS = 2
_BUFFER_MS = 60
_CHARACTERS = 1
_UTF8 = 1
_WORD_EVENT = 1
_NO_EVENT = 0

Words = list[tuple[int, int]]
Emit = Callable[[bytes, Words], bool]
"""Sends a piece; returns whether the request was withdrawn."""


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """libespeak-ng, which reports words while it synthesises."""

    word_times = True

    def __init__(self, voice: str, speed: float) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        self._library = library = ctypes.CDLL(name)
        self.rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, None, 0)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng cannot be initialised: are its data installed?")
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice}")
        library.espeak_SetParameter(1, round(175 * speed), 0)  # words per minute
        self._emit: Emit | None = None
        self._failed: BaseException | None = None
        self._callback = _CALLBACK(self._take)
        library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, emit: Emit) -> None:
        """Synthesise a text."""
        encoded = text.encode("utf-8", "replace") + b"\0"
        self._emit, self._failed = emit, None
        # The size is a size_t: as an int the library reads garbage beyond it and says nothing.
        self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _CHARACTERS, 0, _UTF8, None, None
        )
        self._library.espeak_Synchronize()
        if self._failed is not None:
            raise self._failed

    def _take(self, samples: Any, count: int, events: Any) -> int:
        try:
            words: Words = []
            index = 0
            while events[index].type != _NO_EVENT:
                event = events[index]
                if event.type == _WORD_EVENT:
                    words.append((event.text_position - 1, event.audio_position))
                index += 1
            pcm = ctypes.string_at(samples, count * 2) if samples and count > 0 else b""
            assert self._emit is not None
            return int(self._emit(pcm, words)) if pcm or words else 0
        except BaseException as error:  # nothing may be raised through the library
            self._failed = error
            return 1


class Piper:
    """piper, by sentences; times of words from times of phonemes."""

    word_times = True

    def __init__(self, voice: str, speed: float) -> None:
        from piper import PiperVoice, SynthesisConfig

        self._config = SynthesisConfig(length_scale=1 / speed)
        self._voice = PiperVoice.load(voice, include_alignments=True)
        self.rate = self._voice.config.sample_rate
        for _ in self._voice.synthesize("Ready."):  # the first call is slower
            pass

    def say(self, text: str, emit: Emit) -> None:
        """Synthesise a text."""
        starts, before_ms = _words_of(text), 0.0
        for chunk in self._voice.synthesize(text, syn_config=self._config, include_alignments=True):
            groups = self._groups(chunk, before_ms)
            pcm = chunk.audio_int16_bytes
            before_ms += 1000 * len(pcm) / 2 / self.rate
            # A word may be spoken as several ("10.5"), and several as one ("of the").
            taken = min(len(starts), len(groups))
            words = [(starts[index], groups[index]) for index in range(taken)]
            starts = starts[taken:]
            if emit(pcm, words):
                return

    def _groups(self, chunk: Any, before_ms: float) -> list[int]:
        """Return the time of each group of phonemes that a space ends."""
        found, at, new = [], 0, True
        for phoneme in chunk.phoneme_alignments or ():
            if phoneme.phoneme == " ":
                new = True
            elif new and phoneme.phoneme not in "^$_.,;:!?":
                found.append(round(before_ms + 1000 * at / self.rate))
                new = False
            at += int(phoneme.num_samples)
        return found


def _words_of(text: str) -> list[int]:
    """Return the position of each word with a letter or digit."""
    starts, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        if any(character.isalnum() for character in word):
            starts.append(at)
        at += len(word)
    return starts


class Requests:
    """Requests from standard input, in order, read by a thread."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._withdrawn: set[int] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> tuple[int, str] | None:
        """Return the next request; None when the input has ended."""
        return self._waiting.get()

    def withdrawn(self, number: int) -> bool:
        """Return whether a request was withdrawn."""
        return number in self._withdrawn

    def done(self, number: int) -> None:
        """Forget a request that was answered."""
        self._withdrawn.discard(number)

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                self._withdrawn.add(message["cancel"])
            else:
                self._waiting.put((message["id"], message["text"]))
        # Not `sys.exit`, which waits for a synthesis that may last seconds.
        os._exit(0)


def _send(header: dict[str, Any], pcm: bytes = b"") -> None:
    line = json.dumps({**header, "bytes": len(pcm)}).encode() + b"\n"
    sys.stdout.buffer.write(line + pcm)
    sys.stdout.buffer.flush()


def _answer(engine: Any, requests: Requests, number: int, text: str) -> None:
    def emit(pcm: bytes, words: Words) -> bool:
        if requests.withdrawn(number):
            return True
        _send({"id": number, "words": words}, pcm)
        return False

    last: dict[str, Any] = {"id": number, "last": True}
    if not requests.withdrawn(number):
        try:
            engine.say(text, emit)
        except Exception as error:
            last["error"] = type(error).__name__
    _send(last)
    requests.done(number)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def main() -> None:
    """Answer requests until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True, choices=("espeak", "piper"))
    parser.add_argument("--voice", required=True)
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    _die_with(options.parent)
    # Ctrl-C in a terminal reaches this process too; the parent handles it, after its turns have ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        engine: Any = (Espeak if options.engine == "espeak" else Piper)(options.voice, options.speed)
    except Exception as error:
        sys.exit(f"{options.engine}: {error}")
    _send({"rate": engine.rate, "word_times": engine.word_times})
    requests = Requests()
    while (request := requests.next()) is not None:
        _answer(engine, requests, *request)


if __name__ == "__main__":
    main()
