"""Business rules on the database: one service class each, one transaction per call of a route or task."""
