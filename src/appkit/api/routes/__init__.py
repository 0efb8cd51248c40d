"""One router for each concern."""
