"""The process: uvicorn, listening socket, HTTP heads, garbage collection. Internal."""
