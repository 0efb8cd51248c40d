"""Temporary PostgreSQL databases for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from appkit.repository.database import parse_url


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """Create an empty PostgreSQL database, and drop it when the block ends.

    `server` is the URL of any database on the server. The user in the URL must be allowed to create databases.
    """
    url = parse_url(server)
    name = f"test_{uuid4().hex}"
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        async with engine.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
