"""`python -m bargein_server` is `bargein-server`."""

from .cli import main

main()
