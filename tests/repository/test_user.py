"""The user model of an app. Each case has a process, because tables belong to a process."""

import subprocess
import sys

import pytest

HEADER = """
from sqlalchemy.orm import Mapped
from appkit.exceptions import AppKitError
from appkit.repository.base import Base, BaseTableModel
from appkit.repository.user import BaseUser, resolve_user_model

def refused(work, *words):
    try:
        work()
    except AppKitError as exc:
        assert all(word in str(exc) for word in words), exc
    else:
        raise AssertionError("It was accepted.")

def define(name, table="user"):
    return type(name, (BaseUser,), {"__module__": __name__, "__tablename__": table})
"""

CASES = {
    "the plain User is defined only once": """
assert "user" not in Base.metadata.tables
User = resolve_user_model()
assert resolve_user_model() is User
assert (User.__name__, User.__tablename__) == ("User", "user")
refused(lambda: define("Late"), "Late is defined too late")
refused(lambda: define("Late", "late"), "Late is defined too late")
""",
    "a subclass is found": """
class Member(BaseUser):
    nickname: Mapped[str | None]

class Admin(Member):
    pass

assert resolve_user_model() is Member
assert Member.__tablename__ == "user" and "nickname" in Member.__table__.columns
assert resolve_user_model(Admin) is Admin
""",
    "an abstract subclass is no user model": """
class Common(BaseUser):
    __abstract__ = True
    nickname: Mapped[str | None]

class Member(Common):
    pass

assert resolve_user_model() is Member
""",
    "one of two models must be named": """
Member, Robot = define("Member"), define("Robot", "robot")
refused(resolve_user_model, "Member", "Robot", "user_model=")
assert resolve_user_model(Robot) is Robot
refused(lambda: define("Third"), "Third and Member", "'user'")
""",
    "columns for signing in": """
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
User = resolve_user_model()
assert {c.name for c in User.__table__.constraints} == {"pk_user", "uq_user_email_key"}
user = User(email="a@b.c", hashed_password="hush")
assert "hush" not in repr(user) and not user.email_verified
user.email_verified_at = utcnow()
assert user.email_verified
""",
    "an app needs no user table": """
class Note(BaseTableModel):
    text: Mapped[str]
assert set(Base.metadata.tables) == {"note"}
""",
}


@pytest.mark.parametrize("case", CASES)
def test_the_user_model(case):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEADER + CASES[case]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
