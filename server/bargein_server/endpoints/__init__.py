"""Routes, and the documents that describe them. Internal."""
