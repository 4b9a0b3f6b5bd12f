"""Thin skins over the same sessions."""
