"""Agents for models that hear and speak themselves."""
