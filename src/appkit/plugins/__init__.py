"""Plugins: how hooks are marked, and how an app finds and calls the plugins that implement them."""
