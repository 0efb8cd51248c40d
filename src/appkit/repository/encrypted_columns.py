"""EncryptedString: a column type for encrypted text. `encrypt_again` replaces the secret of a column."""

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
    """Text that is encrypted in the database, with keys from `AUTH_SECRET_KEYS`. This needs the extra `crypto`.

        class Patient(BaseTableModel):
            insurance_number: Mapped[str] = mapped_column(EncryptedString)

    The database can't search or sort by encrypted text. To search, keep a hash or a part of the text in a second
    column. Remove a secret from `AUTH_SECRET_KEYS` only after `encrypt_again` has run for each encrypted column.
    """

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):  # noqa: N801 - SQLAlchemy's name for it
        """Allows only comparisons with None."""

        def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> Any:
            """Compare with None. Any other comparison is an error, because it would find no row."""
            if op in {is_, is_not} or (op in {eq, ne} and other == (None,)):
                return super().operate(op, *other, **kwargs)
            raise AppKitError(
                f"{self.expr} is encrypted, so the database can neither compare nor sort by it. Keep what you search "
                "for, a hash or a part of it, in a second column."
            )

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Encrypt."""
        return None if value is None else _cipher(dialect).encrypt(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Decrypt."""
        return None if value is None else _cipher(dialect).decrypt(value)


async def encrypt_again(session: AsyncSession, column: InstrumentedAttribute[Any]) -> int:
    """Encrypt every value of a column with the first secret in `AUTH_SECRET_KEYS`, so that you can remove the others.

    All changes are in the session's transaction. Objects that the session has loaded are not updated. Returns the
    number of encrypted values.
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
        raise AppKitError(
            "An encrypted column was used outside of a `Database`, which has the keys. "
            "Open the session with `kit.session()` or `database.session()`."
        )
    cipher: Cipher = database.cipher
    return cipher
