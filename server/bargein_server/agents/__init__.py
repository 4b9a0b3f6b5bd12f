"""The agents that come with the server."""
