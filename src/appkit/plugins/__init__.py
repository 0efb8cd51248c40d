"""Hooks: what others may add, and how they are called."""
