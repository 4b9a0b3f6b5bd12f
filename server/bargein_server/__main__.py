"""The command `bargein-server`, also as `python -m bargein_server`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bargein_server import NEEDED


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, or exit with an instruction to install a package."""
    try:
        _serve(arguments)
    except KeyboardInterrupt:  # before the server handles signals: imports, the agent's too, take a while
        sys.exit(130)


def _serve(arguments: Sequence[str] | None) -> None:
    try:
        from .cli import main as serve
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in NEEDED:
            raise
        sys.exit(f'bargein-server needs {package}: pip install "bargein[server]"')
    serve(arguments)


if __name__ == "__main__":
    main()
