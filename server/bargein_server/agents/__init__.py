"""Agents that come with the server, and tools to build others."""
