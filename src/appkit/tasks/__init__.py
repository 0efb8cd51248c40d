"""Jobs come in: the broker, the relay and the tasks that run on them."""
