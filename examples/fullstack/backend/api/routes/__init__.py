"""One router for each thing that people handle."""
