"""Services: classes with business rules, each working in one database session."""
