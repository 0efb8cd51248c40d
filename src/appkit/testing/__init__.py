"""Testing tools for apps: the pytest plugin with its fixtures, and the functions behind them."""
