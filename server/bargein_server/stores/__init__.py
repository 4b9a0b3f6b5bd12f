"""Stores: conversations that outlive the process. Internal."""
