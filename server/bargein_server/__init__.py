"""A WebSocket server for agents that can be interrupted."""
