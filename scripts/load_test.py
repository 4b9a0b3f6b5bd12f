"""Put a server under load and report the times.

    .venv/bin/python scripts/load_test.py ws://127.0.0.1:8000/v1/session --sessions 200 --max-stale 0

    .venv/bin/python scripts/load_test.py ws://127.0.0.1:8000/v1/session --voice --minutes 60

Works with any server that implements the protocol, and needs only the client side of the project.
With `--voice` callers speak to a server that hears: from clips, and over lines that drop.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the load that is asked for."""
    if "--voice" in sys.argv:
        from talk.load import main as speak  # it needs the extra `voice`, and the other load does not

        return speak()
    from loadgen.run import main as write

    return write()


if __name__ == "__main__":
    sys.exit(main())
