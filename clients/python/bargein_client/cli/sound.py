"""Sound of `bargein talk`: microphone and loudspeaker, or WAV files."""

from __future__ import annotations

import asyncio
import wave
from array import array
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..microphone import PIECE_MS, Microphone
from ..player import AudioPlayer

RATES = (8_000, 16_000, 24_000, 48_000)
QUIET_S = 1.5
"""Silence after the end of a file, and of the answer to it, with which the conversation ends."""
MAX_WAIT_S = 30.0
INSTALL = 'talk needs sounddevice: pip install "bargein[talk]"; or give --file and --out'
NO_PORTAUDIO = "talk needs the library PortAudio: apt-get install libportaudio2; or give --file and --out"


class SoundFailed(Exception):  # named like the package's errors, without a suffix
    """There is no sound; the message has the cause and the remedy."""


class Sound(Protocol):
    """A microphone and a loudspeaker.

    Attributes:
        level: Level of the microphone's sound, from 0 to 1.
    """

    level: float

    async def run(self, is_quiet: Callable[[], bool]) -> None:
        """Record and play until the sound is over; for a microphone that is never.

        Args:
            is_quiet: Returns whether nobody speaks.

        Raises:
            SoundFailed: A device or a file cannot be used.
        """
        ...

    def close(self) -> None:
        """Stop, and complete files."""
        ...


def wav_rate(path: Path) -> int:
    """Return the rate of a WAV file.

    Raises:
        SoundFailed: It cannot be read, or is not PCM of 16 bits at a rate that servers take.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2 or file.getframerate() not in RATES:
                raise SoundFailed(
                    f"{path}: expected 16 bits at 8, 16, 24 or 48 kHz, got {8 * file.getsampwidth()} bits at "
                    f"{file.getframerate()} Hz; convert it with: ffmpeg -i {path} -ac 1 -ar 16000 talk.wav"
                )
            return int(file.getframerate())
    except (OSError, wave.Error, EOFError) as error:
        raise SoundFailed(f"{path} cannot be read as WAV: {error}") from None


class FileSound:
    """Sound of files, in real time.

    Args:
        microphone: Takes the sound of `source`.
        player: Gives the sound for `sink`.
        rate: Rate of the input.
        out_rate: Rate of the output.
        source: WAV file to send, mono or its first channel; None for silence until the user leaves.
        sink: WAV file to write what was played to; None for none.

    Attributes:
        level: Level of the sound that is sent.
    """

    def __init__(
        self,
        microphone: Microphone,
        player: AudioPlayer | None,
        rate: int,
        out_rate: int,
        source: Path | None,
        sink: Path | None,
    ) -> None:
        self.level = 0.0
        self._microphone = microphone
        self._player = player
        self._piece = rate * PIECE_MS // 1000
        self._out_piece = out_rate * PIECE_MS // 1000
        self._ends = source is not None
        self._sound = array("h") if source is None else _first_channel(source)
        self._file: wave.Wave_write | None = None
        if sink is not None:
            try:
                self._file = wave.open(str(sink), "wb")  # noqa: SIM115 - open as long as this object
            except OSError as error:
                raise SoundFailed(f"{sink} cannot be written: {error.strerror}") from None
            self._file.setnchannels(1)
            self._file.setsampwidth(2)
            self._file.setframerate(out_rate)

    async def run(self, is_quiet: Callable[[], bool]) -> None:
        """Send the file and write the played sound; end after the last answer."""
        loop = asyncio.get_running_loop()
        began, quiet_for, waited, at = loop.time(), 0.0, 0.0, 0
        for number in range(1, 1 << 62):
            piece = self._sound[at : at + self._piece]
            at += self._piece
            self.level = max((abs(sample) for sample in piece), default=0) / 32768
            piece.extend([0] * (self._piece - len(piece)))
            self._microphone.send(piece.tobytes())
            played = self._player.read(self._out_piece) if self._player is not None else b""
            if self._file is not None:
                self._file.writeframes(played or bytes(2 * self._out_piece))
            if self._ends and at >= len(self._sound):
                quiet_for = quiet_for + PIECE_MS / 1000 if is_quiet() else 0.0
                waited += PIECE_MS / 1000
                if quiet_for >= QUIET_S or (waited > MAX_WAIT_S and not is_quiet() and not any(played)):
                    return
            await asyncio.sleep(began + number * PIECE_MS / 1000 - loop.time())

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()


class SoundDevice:
    """The machine's microphone and loudspeaker, through PortAudio.

    Args:
        microphone: Takes the sound.
        player: Gives the sound.
        rate: Rate of the input.
        out_rate: Rate of the output.

    Raises:
        SoundFailed: PortAudio is missing.

    Attributes:
        level: Level of the microphone's sound.
    """

    def __init__(self, microphone: Microphone, player: AudioPlayer | None, rate: int, out_rate: int) -> None:
        self.level = 0.0
        self._microphone = microphone
        self._player = player
        self._rates = (rate, out_rate)
        self._streams: list[Any] = []
        try:
            self._library: Any = import_module("sounddevice")
        except ModuleNotFoundError:
            raise SoundFailed(INSTALL) from None
        except OSError:
            raise SoundFailed(NO_PORTAUDIO) from None

    async def run(self, is_quiet: Callable[[], bool]) -> None:
        """Record and play until cancelled."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def recorded(data: Any, frames: int, time: Any, status: Any) -> None:
            loop.call_soon_threadsafe(self._send, bytes(data))

        def wanted(data: Any, frames: int, time: Any, status: Any) -> None:
            data[:] = self._player.read(frames) if self._player is not None else bytes(2 * frames)

        def finished() -> None:
            loop.call_soon_threadsafe(ended.set)

        common = {"channels": 1, "dtype": "int16", "latency": "low", "finished_callback": finished}
        rate, out_rate = self._rates
        try:
            self._streams = [
                self._library.RawInputStream(
                    samplerate=rate, blocksize=rate * PIECE_MS // 1000, callback=recorded, **common
                ),
                self._library.RawOutputStream(samplerate=out_rate, callback=wanted, **common),
            ]
            for stream in self._streams:
                stream.start()
        except self._library.PortAudioError as error:
            raise SoundFailed(f"there is no usable microphone or loudspeaker: {error}") from None
        await ended.wait()
        raise SoundFailed("the microphone or the loudspeaker was disconnected")

    def close(self) -> None:
        """Close the devices."""
        for stream in self._streams:
            stream.close(ignore_errors=True)

    def _send(self, sound: bytes) -> None:
        self.level = max((abs(sample) for sample in array("h", sound)), default=0) / 32768
        self._microphone.send(sound)


def _first_channel(path: Path) -> array[int]:
    with wave.open(str(path), "rb") as file:
        samples = array("h", file.readframes(file.getnframes()))
        return samples[:: file.getnchannels()]
