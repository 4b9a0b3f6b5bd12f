"""What happened in a run, as a hash and, when somebody wants to read it, as lines."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b


class Trace:
    """See the module.

    Args:
        now: The virtual time in seconds.
        print_line: Takes each line; None when nobody reads them.
    """

    def __init__(self, now: Callable[[], float], print_line: Callable[[str], None] | None = None) -> None:
        self._now = now
        self._hash = blake2b(digest_size=16)
        self._print = print_line

    def note(self, who: str, what: str, detail: bytes = b"") -> None:
        """Add that something happened now."""
        now = self._now()
        self._hash.update(f"{now!r} {who} {what} {len(detail)} ".encode())
        self._hash.update(detail)
        if self._print is not None:
            self._print(f"{now:12.6f}  {who:<12} {what:<12} {detail[:400].decode('utf-8', 'replace')}")

    def digest(self) -> str:
        """Return the hash of everything so far."""
        return self._hash.hexdigest()
