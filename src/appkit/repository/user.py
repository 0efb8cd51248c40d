"""BaseUser: the columns of the user table, and `resolve_user_model`, which finds the user model of an app."""

from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from typing import Any, ClassVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, String, and_, inspect
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from appkit.exceptions import AppKitError
from appkit.repository.base import BaseTableModel

_PLAIN = "appkit.repository.plain_user"


class BaseUser(BaseTableModel):
    """A user account.

    Subclass it once to add columns:

        class User(BaseUser):
            nickname: Mapped[str | None]

            profile = ProfileSchema  # `GET /auth/me` shows its fields, and `PATCH /auth/me` changes them.

    An app without a subclass gets a plain `User`.

    Raises:
        AppKitError: When a subclass is defined after the plain `User`, or has the same table as another subclass.
    """

    __abstract__ = True
    __tablename__ = "user"

    profile: ClassVar[type[BaseModel] | None] = None
    """A pydantic model of the columns that users may change in their own account. If a field has no default, a request
    can't set it to null."""

    email: Mapped[str] = mapped_column(String(320))
    """The e-mail address as the user entered it. Mail is sent to this address."""
    email_key: Mapped[str] = mapped_column(String(320), unique=True)
    """The normalised e-mail address, the same for all spellings of an address."""
    hashed_password: Mapped[str | None] = mapped_column(String(255))
    """None for users who sign in without a password."""
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified_at: Mapped[datetime | None]
    security_version: Mapped[int] = mapped_column(default=1)
    """Increased by every change that invalidates older sign-in sessions and links."""
    password_changed_at: Mapped[datetime | None]
    last_signin_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if not cls.__dict__.get("__abstract__", False):
            _refuse_second_user(cls)
        super().__init_subclass__(**kwargs)
        _check_profile(cls)

    @hybrid_property
    def is_open(self) -> bool:
        """Whether the account is active and not deleted. Queries can use it: `.where(User.is_open)`."""
        return self.is_active and self.deleted_at is None

    @is_open.inplace.expression
    @classmethod
    def _is_open(cls) -> ColumnElement[bool]:
        return and_(cls.is_active, cls.deleted_at.is_(None))

    @property
    def email_verified(self) -> bool:
        """Whether the user has proved that the e-mail address is theirs."""
        return self.email_verified_at is not None


def resolve_user_model(explicit: type[BaseUser] | None = None) -> type[BaseUser]:
    """An app's user model: `explicit`, or the only subclass of `BaseUser`, or the plain `User` if there is none.

    Raises:
        AppKitError: When several subclasses are defined and `explicit` is None.
    """
    if explicit is not None:
        return explicit
    models = list(_user_models())
    if len(models) > 1:
        names = ", ".join(sorted(model.__qualname__ for model in models))
        raise AppKitError(f"There are several user models: {names}. Name one: AppKit(user_model=…).")
    if models:
        return models[0]
    model: type[BaseUser] = import_module(_PLAIN).User
    return model


def _user_models(base: type[BaseUser] = BaseUser) -> Iterator[type[BaseUser]]:
    """The mapped subclasses, except subclasses of another mapped class."""
    for model in base.__subclasses__():
        if inspect(model, raiseerr=False) is None:
            yield from _user_models(model)
        else:
            yield model


def _check_profile(cls: type[BaseUser]) -> None:
    for name in cls.profile.model_fields if cls.profile and not cls.__dict__.get("__abstract__", False) else ():
        if name in BaseUser.__annotations__ or not hasattr(cls, name):
            raise AppKitError(
                f"{cls.__qualname__}.profile has the field {name!r}, which is not a column that users may change. "
                f"Use only columns that {cls.__qualname__} adds."
            )


def _refuse_second_user(cls: type[BaseUser]) -> None:
    for other in [model for model in _user_models() if not issubclass(cls, model)]:
        if other.__module__ == _PLAIN:
            raise AppKitError(
                f"{cls.__qualname__} is defined too late: the plain User is in use already. "
                "Import the module with your model before `kit.app`, `kit.broker` or `kit.session()` is first used."
            )
        if other.__tablename__ == cls.__tablename__:
            raise AppKitError(
                f"{cls.__qualname__} and {other.__qualname__} both use the table {cls.__tablename__!r}. "
                f"Remove one of them, or give {cls.__qualname__} its own __tablename__."
            )
