"""The HTTP API: the FastAPI app, its routes, dependencies, middleware and error responses."""
