"""Background tasks: the broker, the worker that runs them, and the app's own tasks."""
