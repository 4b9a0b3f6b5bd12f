"""The process that serves: uvicorn, its listening socket, HTTP heads, garbage collection. Internal."""
