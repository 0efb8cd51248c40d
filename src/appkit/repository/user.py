"""BaseUser: the columns that signing in needs, and which class an app's users are."""

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
    """Somebody who can sign in.

    Subclass it, once, for columns of your own:

        class User(BaseUser):
            nickname: Mapped[str | None]

            profile = ProfileSchema  # Whose fields `GET` and `PATCH /auth/me` show and change

    An app that doesn't gets a plain `User`.

    Raises:
        AppKitError: When a subclass is defined after the plain `User` came into use, or for a table that is taken.
    """

    __abstract__ = True
    __tablename__ = "user"

    profile: ClassVar[type[BaseModel] | None] = None
    """A pydantic model of the columns that people may change of their own account; a field without a default can't be
    set to nothing, and one left out of a request stays as it is."""

    email: Mapped[str] = mapped_column(String(320))
    """As it was typed; mail goes here."""
    email_key: Mapped[str] = mapped_column(String(320), unique=True)
    """The form in which two spellings of one address are equal."""
    hashed_password: Mapped[str | None] = mapped_column(String(255))
    """Unset for people who sign in by other means."""
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified_at: Mapped[datetime | None]
    security_version: Mapped[int] = mapped_column(default=1)
    """Grows with every change after which older sessions and links are void."""
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
        """Whether the account may be used: it is neither disabled nor deleted. In SQL too: `.where(User.is_open)`."""
        return self.is_active and self.deleted_at is None

    @is_open.inplace.expression
    @classmethod
    def _is_open(cls) -> ColumnElement[bool]:
        return and_(cls.is_active, cls.deleted_at.is_(None))

    @property
    def email_verified(self) -> bool:
        """Whether they proved that the address is theirs."""
        return self.email_verified_at is not None


def resolve_user_model(explicit: type[BaseUser] | None = None) -> type[BaseUser]:
    """The class of an app's users: the one it names, else the one it defined, else a plain `User`.

    Raises:
        AppKitError: When there are several and none is named.
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
    """Mapped subclasses, without those that extend another mapped one."""
    for model in base.__subclasses__():
        if inspect(model, raiseerr=False) is None:
            yield from _user_models(model)
        else:
            yield model


def _check_profile(cls: type[BaseUser]) -> None:
    for name in cls.profile.model_fields if cls.profile and not cls.__dict__.get("__abstract__", False) else ():
        if name in BaseUser.__annotations__ or not hasattr(cls, name):
            raise AppKitError(
                f"{cls.__qualname__}.profile has the field {name!r}, which is no column that people may change. "
                f"Name columns of {cls.__qualname__}'s own."
            )


def _refuse_second_user(cls: type[BaseUser]) -> None:
    others = [model for model in _user_models() if not issubclass(cls, model)]
    for other in others:
        if other.__module__ == _PLAIN:
            raise AppKitError(
                f"{cls.__qualname__} is defined too late: the plain User is in use already. "
                "Import the module with your model before `kit.app`, `kit.broker` or `kit.session()` is first used."
            )
        if other.__tablename__ == cls.__tablename__:
            raise AppKitError(
                f"{cls.__qualname__} and {other.__qualname__} are both kept in the table {cls.__tablename__!r}. "
                f"Keep one of them, or give {cls.__qualname__} a __tablename__ of its own."
            )
