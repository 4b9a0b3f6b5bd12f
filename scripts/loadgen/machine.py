"""Memory and processor time of the server and of the generator itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import Struct


class Usage(Struct, frozen=True):
    """Resources used by a process so far.

    Args:
        at: Time of the sample, in seconds of the monotonic clock.
        cpu_s: Seconds of processor time, user and system, of all its threads.
        rss_bytes: Resident memory.
    """

    at: float
    cpu_s: float
    rss_bytes: int


def usage_of(pid: int) -> Usage:
    """Return the resources used by a process, without its children.

    Raises:
        OSError: There is no such process, or this system has no `/proc`.
    """
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text("ascii").split()[1])
    return Usage(time.monotonic(), _processor_s(folder), pages * os.sysconf("SC_PAGE_SIZE"))


def _processor_s(process: Path) -> float:
    """Return processor time, in the best resolution that the kernel has."""
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
    """Samples of one process.

    Args:
        pid: The process; None for this one, for which only the processor time is available.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._samples = [self._usage()]

    def sample(self) -> None:
        """Add a sample, unless the process is gone."""
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
        """Share of one core in use, from the first sample to the last."""
        first, last = self._samples[0], self._samples[-1]
        return (last.cpu_s - first.cpu_s) / max(last.at - first.at, 1e-9)

    @property
    def cpu_share_max(self) -> float:
        """Highest share of one core between two samples."""
        pairs = zip(self._samples, self._samples[1:], strict=False)
        return max(((b.cpu_s - a.cpu_s) / max(b.at - a.at, 1e-9) for a, b in pairs), default=0.0)

    @property
    def cpu_s(self) -> float:
        """Processor time from the first sample to the last, in seconds."""
        return self._samples[-1].cpu_s - self._samples[0].cpu_s

    @property
    def rss_mib(self) -> tuple[float, float, float]:
        """Resident memory in MiB: first, highest and last sample."""
        sizes = [sample.rss_bytes / 2**20 for sample in self._samples]
        return sizes[0], max(sizes), sizes[-1]
