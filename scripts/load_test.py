"""Load test: users talk, interrupt, lose the line and read slowly.

    .venv/bin/python scripts/load_test.py ws://127.0.0.1:8000/v1/session --sessions 200 --max-stale 0

Works against any server that speaks the protocol, and needs the client's side of the project only.
"""

from __future__ import annotations

import sys

from loadgen.run import main

if __name__ == "__main__":
    sys.exit(main())
