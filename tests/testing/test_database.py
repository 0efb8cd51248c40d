from sqlalchemy import URL, text

from appkit.repository.database import Database
from appkit.testing.database import fresh_database


async def databases(server: str) -> set[str]:
    database = Database(server)
    async with database.read_session() as db:
        names = set(await db.scalars(text("SELECT datname FROM pg_database")))
    await database.dispose()
    return names


async def test_fresh_database_is_empty_and_dropped(postgres_server: URL) -> None:
    server = postgres_server.render_as_string(hide_password=False)
    async with fresh_database(server) as url:
        database = Database(url)
        async with database.session() as db:
            tables = await db.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
        assert tables == 0
        name = database.url.database
        assert name in await databases(server)
        # The connection stays open, because an open connection must not prevent the drop.
    assert name not in await databases(server)
    await database.dispose()
