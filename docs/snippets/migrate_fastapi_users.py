"""Copy fastapi-users' accounts into this app: `python migrate_fastapi_users.py postgresql+asyncpg://…/old user`."""

import asyncio
import sys
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Select, column, select, table
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from appkit import AppKit, BaseUser
from appkit.domain.emails import parse_email

kit = AppKit()  # Import your app's kit instead.
COLUMNS = ("id", "email", "hashed_password", "is_active", "is_superuser", "is_verified")


async def copy_accounts(url: str, name: str) -> list[str]:
    """Copy all accounts in one transaction. Returns the addresses that can't be copied, with the reason."""
    old, left_behind = create_async_engine(url), list[str]()
    accounts: Select[*tuple[object, ...]] = (
        select(*map(column, COLUMNS)).select_from(table(name)).order_by(column("id"))
    )
    async with old.connect() as source, kit.session() as db:
        model = kit.context.user_model
        taken = set(await db.scalars(select(model.email_key)))
        async for row in (await source.stream(accounts)).mappings():
            try:
                key = parse_email(row["email"]).key
            except ValueError as exc:
                left_behind.append(f"{row['email']}: {exc}")
                continue
            if key in taken:
                left_behind.append(f"{row['email']}: This address has an account already, perhaps in another spelling.")
                continue
            taken.add(key)
            add(db, model, dict(row), key)
    await old.dispose()
    return left_behind


def add(db: AsyncSession, model: type[BaseUser], row: dict[str, object], key: str) -> None:
    now = datetime.now(UTC)
    db.add(
        model(
            id=UUID(str(row["id"])),
            email=row["email"],
            email_key=key,
            hashed_password=row["hashed_password"],
            is_active=bool(row["is_active"]),
            is_superuser=bool(row["is_superuser"]),
            email_verified_at=now if row["is_verified"] else None,
        )
    )


async def main(url: str, name: str) -> None:
    for complaint in await copy_accounts(url, name):
        print(complaint)
    await kit.database.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
