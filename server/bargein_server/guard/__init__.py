"""Authentication, admission and rate limits. Internal."""
