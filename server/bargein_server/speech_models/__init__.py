"""Agents for speech-to-speech models."""
