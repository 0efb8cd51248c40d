"""Pure rules: what things mean, with no database and no network."""
