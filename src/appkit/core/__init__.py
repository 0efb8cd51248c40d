"""Settings, logging, monitoring, mail, cache, rate limits and keys, for every other layer."""
