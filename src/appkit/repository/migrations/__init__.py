"""Migrations: Alembic with appkit's environment. An app keeps only its migration files."""

from appkit.repository.migrations.runner import Migrations as Migrations, migrate_at_start as migrate_at_start
