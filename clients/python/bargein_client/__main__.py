"""`python -m bargein_client`: the command `bargein`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
