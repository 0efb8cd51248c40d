"""Jobs come in here."""
