"""Reads on a fake transport take no time."""

from still_clock import reads_take_no_time

__all__ = ["reads_take_no_time"]
