"""Requests come in: the FastAPI app, its routes, dependencies and errors."""
