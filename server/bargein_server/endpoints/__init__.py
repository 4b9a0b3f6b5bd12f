"""Routes: thin layers over the sessions. Internal."""
