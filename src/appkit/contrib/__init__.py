"""Optional features, each a plugin built on the public hooks only."""
