"""Migrations: Alembic with appkit's environment, so that an app keeps only its versions."""

from appkit.repository.migrations.runner import Migrations as Migrations, migrate_at_start as migrate_at_start
