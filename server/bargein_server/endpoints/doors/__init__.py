"""Other protocols over the same sessions. Internal."""
