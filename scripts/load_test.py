"""Put a server under load and report the times.

    .venv/bin/python scripts/load_test.py ws://127.0.0.1:8000/v1/session --sessions 200 --max-stale 0

Works with any server that implements the protocol, and needs only the client side of the project.
"""

from __future__ import annotations

import sys

from loadgen.run import main

if __name__ == "__main__":
    sys.exit(main())
