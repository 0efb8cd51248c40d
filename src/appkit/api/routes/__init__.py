"""The routers of the built-in routes."""
