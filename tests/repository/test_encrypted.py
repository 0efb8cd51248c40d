"""Encrypted columns, and the replacement of secrets."""

import sys
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Mapped, mapped_column

from appkit.core.encryption import Cipher
from appkit.exceptions import AppKitError
from appkit.repository import encrypted_columns
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.repository.encrypted_columns import EncryptedString, encrypt_again

OLD, NEW = b"an old secret of more than thirty-two bytes", b"a new secret of more than thirty-two bytes"


class Patient(BaseTableModel):
    number: Mapped[str | None] = mapped_column("insurance_number", EncryptedString)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    database.cipher = Cipher([OLD])
    async with database.engine.begin() as connection:
        await connection.run_sync(Patient.metadata.tables["patient"].create)
    yield database
    await database.dispose()


async def stored(database: Database) -> list[str | None]:
    async with database.read_session() as db:
        return list(await db.scalars(text("SELECT insurance_number FROM patient ORDER BY id")))


async def read(database: Database) -> list[str | None]:
    async with database.read_session() as db:
        return list(await db.scalars(select(Patient.number).order_by(Patient.id)))


async def test_a_value_comes_back_and_is_not_in_the_database(database):
    values = ["A 123", "", "Zoë 🙂", "A 123", None]
    async with database.session() as db:
        db.add_all([Patient(number=value) for value in values])
    found = await stored(database)
    assert found[-1] is None
    assert len(set(found)) == 5  # Equal values have different ciphertexts.
    assert not any(value and value in str(found) for value in values)
    assert await read(database) == values


async def test_a_secret_is_replaced_without_losing_a_value(database, monkeypatch):
    monkeypatch.setattr(encrypted_columns, "_BATCH", 2)
    values = ["one", "two", None, "three", "four"]
    async with database.session() as db:
        db.add_all([Patient(number=value) for value in values])
    database.cipher = Cipher([NEW])
    with pytest.raises(AppKitError, match="No secret in AUTH_SECRET_KEYS decrypts this"):
        await read(database)
    database.cipher = Cipher([NEW, OLD])
    assert await read(database) == values
    async with database.session() as db:
        assert await encrypt_again(db, Patient.number) == 4
    database.cipher = Cipher([NEW])
    assert await read(database) == values


async def test_a_value_that_somebody_changed_is_refused(database):
    async with database.session() as db:
        db.add(Patient(number="one"))
        await db.flush()
        await db.execute(text("UPDATE patient SET insurance_number = 'gAAAA' || insurance_number"))
    with pytest.raises(AppKitError, match="decrypts this"):
        await read(database)


@pytest.mark.parametrize(
    "compare",
    [
        lambda: Patient.number == "one",
        lambda: Patient.number != "one",
        lambda: Patient.number.in_(["one"]),
        lambda: Patient.number.contains("one"),
        Patient.number.desc,
        lambda: Patient.number > "one",
    ],
    ids=["equal", "unequal", "in", "contains", "sort", "greater"],
)
def test_encrypted_column_refuses_comparisons(compare):
    with pytest.raises(AppKitError, match=r"^patient\.insurance_number is encrypted"):
        compare()


async def test_encrypted_column_can_be_compared_with_none(database):
    async with database.session() as db:
        db.add_all([Patient(number="one"), Patient(number=None)])
    async with database.read_session() as db:
        for condition in (Patient.number.is_not(None), Patient.number != None):  # noqa: E711 - means IS NOT NULL
            assert (await db.scalars(select(Patient).where(condition))).one().number == "one"


async def test_an_app_s_keys_come_from_its_settings(kit):
    kit.database.cipher.encrypt("one")
    assert Cipher(kit.settings.signing_keys).decrypt(kit.database.cipher.encrypt("one")) == "one"


def test_database_without_an_app_has_no_keys(tmp_path):
    with pytest.raises(AppKitError, match=r"set `database\.cipher` to a Cipher"):
        _ = Database(f"sqlite:///{tmp_path}/test.db").cipher
    with pytest.raises(AppKitError, match="Set AUTH_SECRET_KEYS"):
        Cipher([])


def test_without_cryptography_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(AppKitError, match=r"pip install 'fastapi-appkit\[crypto\]'"):
        Cipher([NEW])
