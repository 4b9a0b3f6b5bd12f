"""Example agents, each a complete program; see `server/docs/examples.md`.

bargein-server bargein_server.examples.support:agent
"""
