"""Columns whose values only the app can read."""

from typing import Any

from sqlalchemy import Dialect, Text, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.operators import OperatorType, eq, is_, is_not, ne
from sqlalchemy.types import TypeDecorator

from appkit.core.encryption import Cipher
from appkit.exceptions import AppKitError

_BATCH = 500


class EncryptedString(TypeDecorator[str]):
    """Text that is encrypted in the database, with keys from `AUTH_SECRET_KEYS`; it needs the extra `crypto`.

        class Patient(BaseTableModel):
            insurance_number: Mapped[str] = mapped_column(EncryptedString)

    The database can't compare what it can't read: keep beside it what you search for. A secret that encrypted
    something must stay in `AUTH_SECRET_KEYS` until `encrypt_again` has run for each such column.
    """

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):  # noqa: N801 - SQLAlchemy's name for it
        """Knows only whether there is a value."""

        def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> Any:
            """Compare with None.

            Raises:
                AppKitError: When it is any other comparison, which would find nothing.
            """
            if op in {is_, is_not} or (op in {eq, ne} and other == (None,)):
                return super().operate(op, *other, **kwargs)
            raise AppKitError(
                f"{self.expr} is encrypted, so the database can neither compare nor sort by it. Keep what you search "
                "for, a hash or a part of it, in a column beside it."
            )

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Encrypt."""
        return None if value is None else _cipher(dialect).encrypt(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Decrypt."""
        return None if value is None else _cipher(dialect).decrypt(value)


async def encrypt_again(session: AsyncSession, column: InstrumentedAttribute[Any]) -> int:
    """Encrypt every value of a column with the first of `AUTH_SECRET_KEYS`, so that the others may go.

    In one transaction with the session's, and with no regard to what else the session loaded.

    Returns:
        How many there were.
    """
    mapper = inspect(column.class_)
    key = mapper.primary_key[0]
    table, count, latest = mapper.local_table, 0, None
    while True:
        page = select(key, column).where(column.is_not(None)).order_by(key).limit(_BATCH).with_for_update()
        rows = (await session.execute(page if latest is None else page.where(key > latest))).all()
        for row_key, value in rows:
            await session.execute(update(table).where(key == row_key).values({column.property.columns[0]: value}))
        count += len(rows)
        if len(rows) < _BATCH:
            return count
        latest = rows[-1][0]


def _cipher(dialect: Dialect) -> Cipher:
    database = getattr(dialect, "appkit_database", None)
    if database is None:
        raise AppKitError("An encrypted column needs its keys, which only sessions of a Database have.")
    cipher: Cipher = database.cipher
    return cipher
