"""Sessions and turns that run: hosts, tasks, tool calls, pacing, model streams. Internal."""
