"""What `appkit check` looks for."""
