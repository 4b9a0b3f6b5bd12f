"""Sockets: wires, connections, event streams."""
