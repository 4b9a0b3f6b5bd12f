"""Example agents, each a complete program."""
