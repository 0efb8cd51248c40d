"""How things are kept: models, sessions, pages and migrations."""
