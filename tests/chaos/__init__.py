"""Chaos: real servers, a real Valkey and real clients, while something is killed every few seconds."""
