"""Door for clients of OpenAI's Realtime protocol, at `/v1/realtime`."""
