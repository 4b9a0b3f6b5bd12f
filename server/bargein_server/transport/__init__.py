"""Sockets: wires, connections, event streams. Internal."""
