"""Hosts of sessions: turn tasks, tool calls, pacing, streams. Internal."""
