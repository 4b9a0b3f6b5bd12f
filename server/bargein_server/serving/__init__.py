"""Process: uvicorn, listening socket, HTTP heads, garbage collection. Internal."""
