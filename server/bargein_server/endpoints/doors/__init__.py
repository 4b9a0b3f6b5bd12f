"""Doors: other protocols over the same sessions."""
