"""Optional features. Each is a plugin that uses public hooks only."""
