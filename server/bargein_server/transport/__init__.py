"""Sockets: protocols, wires, connections, event streams. Internal."""
