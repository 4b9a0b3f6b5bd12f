"""Process: uvicorn, listening socket, HTTP, garbage collection. Internal."""
