"""Accounts of fastapi-users keep their ids and their passwords."""

import sqlite3
from contextlib import closing
from uuid import uuid4

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

pytestmark = pytest.mark.slow  # A server is started.
# As fastapi-users-db-sqlalchemy 7 makes it on SQLite.
TABLE = """
CREATE TABLE user (
    email VARCHAR(320) NOT NULL, hashed_password VARCHAR(1024) NOT NULL, is_active BOOLEAN NOT NULL,
    is_superuser BOOLEAN NOT NULL, is_verified BOOLEAN NOT NULL, id CHAR(36) NOT NULL, PRIMARY KEY (id)
)
"""
ADA, BEN, CAT = "Ada@example.com", "ben@example.com", "cat@example.com"
PASSWORD = "correct horse battery"


def test_accounts_move_with_their_passwords(folder, serve, python):
    directory, ids = folder("migrate_fastapi_users"), {email: str(uuid4()) for email in (ADA, BEN, CAT)}
    argon2, bcrypt = Argon2Hasher().hash(PASSWORD), BcryptHasher().hash(PASSWORD)
    accounts = [
        (ADA, bcrypt, True, True, True, ids[ADA]),
        (BEN, argon2, True, False, False, ids[BEN]),
        (CAT, argon2, False, False, False, ids[CAT]),
        ("BEN@example.com", argon2, True, True, True, "f" * 8 + str(uuid4())[8:]),
        ("ünicode@example.com", argon2, True, False, False, str(uuid4())),
    ]
    with closing(sqlite3.connect(directory / "old.db")) as old, old:
        old.execute(TABLE)
        old.executemany("INSERT INTO user VALUES (?, ?, ?, ?, ?, ?)", accounts)

    with serve(directory, "migrate_fastapi_users:kit.app") as browser:
        said = python(directory, "migrate_fastapi_users.py", "sqlite+aiosqlite:///old.db", "user")

        def signin(email: str, password: str = PASSWORD):
            return browser.post("/api/auth/signin", json={"email": email, "password": password})

        assert signin(ADA, "wrong").status_code == 401
        for _ in range(2):  # The second time it is Argon2's.
            ada = signin("ada@example.com").json()
            assert (ada["id"], ada["email"]) == (ids[ADA], ADA)
            assert ada["is_superuser"]
            assert ada["email_verified"]
        ben = signin(BEN).json()
        assert (ben["id"], ben["is_superuser"], ben["email_verified"]) == (ids[BEN], False, False)
        assert signin(CAT).status_code == 401

    assert sorted(line.partition(":")[0] for line in said.splitlines()) == ["BEN@example.com", "ünicode@example.com"]
