"""Background tasks: the broker, the worker, and appkit's own tasks."""
