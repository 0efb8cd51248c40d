"""Services: business rules. Each call is one transaction."""
