"""Example agents, each a complete program; the guide `server/docs/examples.md` has their order.

bargein-server bargein_server.examples.support:agent
"""
