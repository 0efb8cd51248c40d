"""Only database sessions, in a script."""

import asyncio

from sqlalchemy import text

from appkit import Database


async def main() -> None:
    database = Database("sqlite:///./shop.db")
    async with database.session() as db:
        await db.execute(text("CREATE TABLE IF NOT EXISTS sale (amount INTEGER)"))
        await db.execute(text("INSERT INTO sale VALUES (42)"))
    async with database.read_session() as db:
        print(await db.scalar(text("SELECT sum(amount) FROM sale")))
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(main())
