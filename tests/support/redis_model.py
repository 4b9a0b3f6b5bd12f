"""Model of a Redis server: the commands and scripts of the store, written out again over dictionaries.

It is held against a real Valkey by `stores/test_redis_model.py`, so that a simulation with it says what the
real one would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bargein_server.stores import redis_scripts as scripts

Value = bytes | dict[bytes, bytes] | list[bytes]
Sorted = dict[bytes, float]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _counter(fence: bytes) -> int:
    digits = fence.partition(b".")[0]
    return int(digits) if digits.isdigit() else 0


class RedisModel:
    """A server.

    Args:
        now: Returns its time in seconds since 1970.

    Attributes:
        started_at: The time at which it was started.
        expiries: Time at which each key expires, for those that do.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.started_at = now() - 3600.0
        self._values: dict[str, Any] = {}
        self.expiries: dict[str, float] = {}
        self._scripts: dict[str, Callable[[list[str], list[bytes]], Any]] = {
            script.digest: run
            for script, run in (
                (scripts.WRITE, self._write),
                (scripts.READ, self._read),
                (scripts.CLAIM, self._claim),
                (scripts.RENAME, self._rename),
                (scripts.DELETE, self._delete),
                (scripts.TOUCH, self._touch),
                (scripts.SUMMARY, self._summary),
                (scripts.USE, self._use),
                (scripts.BEAT, self._beat),
                (scripts.ASK, self._ask),
            )
        }

    # --- the server --------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Return the keys that have not expired."""
        return [key for key in list(self._values) if self._get(key) is not None]

    def copy(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Return what it has now."""
        values = {
            key: value if isinstance(value, bytes) else type(value)(value)
            for key, value in self._values.items()
        }
        return values, dict(self.expiries)

    def restore(self, copied: tuple[dict[str, Any], dict[str, float]]) -> None:
        """Go back to a copy, which is used up."""
        self._values, self.expiries = copied

    def flush(self) -> None:
        """Forget everything."""
        self.restore(({}, {}))

    def call(self, command: Sequence[Any]) -> Any:
        """Return the answer to a command."""
        name, *args = command
        if name == "EVALSHA":
            count = int(args[1])
            keys = [str(key) for key in args[2 : 2 + count]]
            return self._scripts[args[0]](keys, [_bytes(arg) for arg in args[2 + count :]])
        answer: Any = getattr(self, f"_on_{name.lower()}")(*args)
        return answer

    def _on_info(self) -> bytes:
        lines = (
            f"valkey_version:9.1\r\nuptime_in_seconds:{self._now() - self.started_at}\r\naof_enabled:1\r\n"
        )
        return lines.encode()

    def _on_ping(self) -> bytes:
        return b"PONG"

    def _on_get(self, key: str) -> bytes | None:
        found: bytes | None = self._get(key)
        return found

    def _on_set(self, key: str, value: Any, *options: Any) -> bytes:
        self._values[key] = _bytes(value)
        self.expiries.pop(key, None)
        if options:
            self._expire(key, int(options[1]))
        return b"OK"

    def _on_del(self, *keys: str) -> int:
        found = sum(self._get(key) is not None for key in keys)
        for key in keys:
            self._drop(key)
        return found

    def _on_zrem(self, key: str, member: Any) -> int:
        members: Sorted | None = self._get(key)
        if members is None or members.pop(_bytes(member), None) is None:
            return 0
        if not members:
            self._drop(key)
        return 1

    def _on_zrangebyscore(self, key: str, low: str, high: str, *limit: Any) -> list[bytes]:
        return self._between(key, low, high, limit, back=False)

    def _on_zrevrangebyscore(self, key: str, high: str, low: str, *limit: Any) -> list[bytes]:
        return self._between(key, low, high, limit, back=True)

    def _between(self, key: str, low: str, high: str, limit: Sequence[Any], *, back: bool) -> list[bytes]:
        members: Sorted = self._get(key) or {}
        found = [
            (score, member)
            for member, score in members.items()
            if _inside(score, low, below=False) and _inside(score, high, below=True)
        ]
        found.sort(reverse=back)
        _, first, most = limit
        return [member for _, member in found[int(first) : int(first) + int(most)]]

    # --- keys --------------------------------------------------------------------------------------

    def _get(self, key: str) -> Any:
        due = self.expiries.get(key)
        if due is not None and due <= self._now():
            self._drop(key)
        return self._values.get(key)

    def _drop(self, key: str) -> None:
        self._values.pop(key, None)
        self.expiries.pop(key, None)

    def _expire(self, key: str, ms: int) -> None:
        if key in self._values:
            self.expiries[key] = self._now() + ms / 1000

    def _hash(self, key: str) -> dict[bytes, bytes]:
        if self._get(key) is None:
            self._values[key] = {}
        found: dict[bytes, bytes] = self._values[key]
        return found

    def _push(self, key: str, values: Sequence[bytes]) -> int:
        if self._get(key) is None:
            self._values[key] = []
        self._values[key].extend(values)
        return len(self._values[key])

    # --- scripts -----------------------------------------------------------------------------------

    def _write(self, keys: list[str], args: list[bytes]) -> bytes:
        fence, follows, whole, ttl = args[0], args[1], args[2] == b"1", int(args[3])
        has: dict[bytes, bytes] = self._get(keys[0]) or {}
        if b"f" not in has:
            if self._get(keys[4]) is not None:
                return b"closed"
            if not whole:
                return b"behind"
        elif has[b"f"] != fence:
            if _counter(has[b"f"]) >= _counter(fence):
                return b"fenced"
            if not whole:
                return b"behind"
        elif not whole and has.get(b"w") != follows:
            return b"behind"
        named = has.get(b"y")
        if whole:
            self._on_del(*keys[:4])
        at = 5

        def take() -> list[bytes]:
            nonlocal at
            size = int(args[at])
            at += 1 + size
            return args[at - size : at]

        meta = self._hash(keys[0])
        meta |= {b"f": fence, b"w": b"%d" % (int(follows) + 1), b"n": args[4], b"k": _bytes(self._now())}
        fields = take()
        meta |= dict(zip(fields[::2], fields[1::2], strict=True))
        if named is not None:
            meta[b"y"] = named
        turns = take()
        if turns:
            self._hash(keys[1]).update(zip(turns[::2], turns[1::2], strict=True))
        for turn in take():
            (self._get(keys[1]) or {}).pop(turn, None)
        self._drop_pieces(keys[3], take())
        if (answers := take()) and self._push(keys[2], answers) > 1280:
            self._values[keys[2]] = self._values[keys[2]][-1024:]
        for output in take():
            if self._push(keys[3], [output]) == 1:
                self._expire(keys[3], ttl)
        if fields:
            for key in keys[:4]:
                self._expire(key, ttl)
        return b"stored"

    def _drop_pieces(self, key: str, ended: list[bytes]) -> None:
        if not ended or (pieces := self._get(key)) is None:
            return
        starts = tuple(b'["%b",' % turn for turn in ended)
        kept = [each for each in pieces if not each.startswith(starts)]
        self._drop(key)
        if kept:
            self._push(key, kept)

    def _read(self, keys: list[str], args: list[bytes]) -> Any:
        meta: dict[bytes, bytes] = self._get(keys[0]) or {}
        if b"f" not in meta or b"h" not in meta:
            return None
        fields = [meta.get(name) for name in (b"f", b"w", b"n", b"c", b"u", b"h", b"k", b"v", b"y")]
        turns = list((self._get(keys[1]) or {}).values())
        return [fields, turns, list((self._get(keys[2]) or [])[-1024:]), list(self._get(keys[3]) or [])]

    def _claim(self, keys: list[str], args: list[bytes]) -> int:
        meta: dict[bytes, bytes] = self._get(keys[0]) or {}
        if meta.get(b"f") != args[0] or meta.get(b"w") != args[1]:
            return 0
        meta |= {b"f": args[2], b"c": b"0"}
        return 1

    def _rename(self, keys: list[str], args: list[bytes]) -> int:
        meta: dict[bytes, bytes] | None = self._get(keys[0])
        if meta is None:
            return 0
        if args[0]:
            meta[b"y"] = args[0]
        else:
            meta.pop(b"y", None)
        return 1

    def _delete(self, keys: list[str], args: list[bytes]) -> Any:
        meta: dict[bytes, bytes] = self._get(keys[0]) or {}
        if args[1] and b"u" in meta and float(meta[b"u"]) >= float(args[1]):
            return 0
        if args[0] != b"0":
            self._on_set(keys[4], "1", "PX", int(args[0]))
        self._on_del(*keys[:4])
        return [int(b"f" in meta), meta.get(b"p", b"")]

    def _touch(self, keys: list[str], args: list[bytes]) -> int:
        meta: dict[bytes, bytes] = self._get(keys[0]) or {}
        if b"u" not in meta:
            return 0
        if float(meta[b"u"]) < float(args[0]):
            meta[b"u"] = args[0]
        for key in keys[:4]:
            self._expire(key, int(args[1]))
        return 1

    def _summary(self, keys: list[str], args: list[bytes]) -> Any:
        meta: dict[bytes, bytes] = self._get(keys[0]) or {}
        if b"f" not in meta:
            return None
        turns = [value.partition(b"\n") for value in (self._get(keys[1]) or {}).values()]
        record = min(turns, key=lambda turn: int(turn[0]))[2] if turns else b""
        return [meta.get(b"p", b""), meta.get(b"b"), meta.get(b"u"), len(turns), record, meta.get(b"y")]

    def _use(self, keys: list[str], args: list[bytes]) -> int:
        for key in keys[:2]:
            if self._get(key) is None:
                self._values[key] = {}
            self._values[key][args[1]] = float(args[0])
            self._expire(key, int(args[2]))
        return 1

    def _beat(self, keys: list[str], args: list[bytes]) -> Any:
        known, mark = int(args[0]), int(self._get(keys[1]) or b"0")
        forgot = known > 0 and mark < known
        self._on_set(keys[0], args[2], "PX", int(args[3]))
        self._on_set(keys[4], args[2], "PX", int(args[4]))
        self._on_set(keys[1], b"%d" % max(mark, int(args[1])), "PX", int(args[4]))
        if forgot:
            self._on_set(keys[2], self._now(), "PX", int(args[5]))
        asked = list(self._get(keys[3]) or [])
        self._drop(keys[3])
        return [int(forgot), self._get(keys[2]) or b"", _bytes(self._now()), asked]

    def _ask(self, keys: list[str], args: list[bytes]) -> int:
        self._push(keys[0], [b"%.6f %b" % (self._now(), args[0])])
        self._expire(keys[0], int(args[1]))
        return 1


def _inside(score: float, bound: str, *, below: bool) -> bool:
    open_end = str(bound).startswith("(")
    value = float(str(bound).removeprefix("("))
    if open_end:
        return score < value if below else score > value
    return score <= value if below else score >= value
