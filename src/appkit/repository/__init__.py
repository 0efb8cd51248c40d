"""The database: tables, database sessions, queries and pages, the outbox, migrations."""
