"""Memory and processor time of the server and of the generator itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import Struct


class Usage(Struct, frozen=True):
    """Resources that a process has used so far.

    Args:
        at: When, in seconds of the monotonic clock.
        cpu_s: Seconds of processor time, user and system, of all its threads.
        rss_bytes: Memory that it holds.
    """

    at: float
    cpu_s: float
    rss_bytes: int


def usage_of(pid: int) -> Usage:
    """Return the resources that a process has used, without its children.

    Raises:
        OSError: There is no such process, or this system has no `/proc`.
    """
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text("ascii").split()[1])
    return Usage(time.monotonic(), _processor_s(folder), pages * os.sysconf("SC_PAGE_SIZE"))


def _processor_s(process: Path) -> float:
    """Return the CPU time of a process, in the finest unit available."""
    try:
        threads = [(task / "schedstat").read_text("ascii") for task in (process / "task").iterdir()]
    except FileNotFoundError:  # a kernel without it, or a thread that ended just now
        threads = []
    exact = sum(int(thread.split()[0]) for thread in threads) / 1e9
    # proc(5): the command, which may hold spaces, is in parentheses; utime and stime are fields 14 and 15.
    fields = (process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    coarse = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    # The ticks also count threads that are gone; what differs by more than a tick or two is that.
    return exact if abs(exact - coarse) < 0.1 else coarse


class Watch:
    """Follows one process.

    Args:
        pid: The process; None for this one, of which only the processor time is known.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._samples = [self._usage()]

    def sample(self) -> None:
        """Look once more; a process that is gone is left as it was."""
        try:
            self._samples.append(self._usage())
        except OSError:
            if self._pid is None:
                raise

    def _usage(self) -> Usage:
        if self._pid is None:
            return Usage(time.monotonic(), time.process_time(), 0)
        return usage_of(self._pid)

    @property
    def cpu_share(self) -> float:
        """How much of one core it used, from the first look to the last."""
        first, last = self._samples[0], self._samples[-1]
        return (last.cpu_s - first.cpu_s) / max(last.at - first.at, 1e-9)

    @property
    def cpu_share_max(self) -> float:
        """The same, between the two looks where it was highest."""
        pairs = zip(self._samples, self._samples[1:], strict=False)
        return max(((b.cpu_s - a.cpu_s) / max(b.at - a.at, 1e-9) for a, b in pairs), default=0.0)

    @property
    def cpu_s(self) -> float:
        """Processor time from the first look to the last, in seconds."""
        return self._samples[-1].cpu_s - self._samples[0].cpu_s

    @property
    def rss_mib(self) -> tuple[float, float, float]:
        """Memory in MiB: at the first look, at most, at the last."""
        sizes = [sample.rss_bytes / 2**20 for sample in self._samples]
        return sizes[0], max(sizes), sizes[-1]
