"""fastapi-users as its documentation sets it up, with both strategies. It runs in a separate environment."""
# Its adapter needs SQLAlchemy 2.0, so it can't be installed where types are checked.
# mypy: ignore-errors

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = "nobody else has this secret of the benchmark's"  # noqa: S105 - only for the benchmark

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}")
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The base of the tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A token that can be revoked."""


async def session() -> AsyncIterator[AsyncSession]:
    """A session for each request."""
    async with sessions() as db:
        yield db


DbSession = Annotated[AsyncSession, Depends(session)]


async def user_database(db: DbSession) -> AsyncIterator[SQLAlchemyUserDatabase]:
    """The users' adapter."""
    yield SQLAlchemyUserDatabase(db, User)


async def token_database(db: DbSession) -> AsyncIterator[SQLAlchemyAccessTokenDatabase]:
    """The tokens' adapter."""
    yield SQLAlchemyAccessTokenDatabase(db, AccessToken)


class UserManager(UUIDIDMixin, BaseUserManager[User, UUID]):
    """The manager that fastapi-users asks for."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def user_manager(
    database: Annotated[SQLAlchemyUserDatabase, Depends(user_database)],
) -> AsyncIterator[UserManager]:
    """A manager for each request."""
    yield UserManager(database)


def jwt_strategy() -> JWTStrategy:
    """Tokens that can't be revoked."""
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


def database_strategy(tokens: Annotated[AccessTokenDatabase, Depends(token_database)]) -> DatabaseStrategy:
    """Tokens that can be revoked."""
    return DatabaseStrategy(tokens, lifetime_seconds=3600)


by_jwt = AuthenticationBackend("jwt", BearerTransport("jwt/login"), jwt_strategy)
by_database = AuthenticationBackend("database", BearerTransport("database/login"), database_strategy)
users = FastAPIUsers[User, UUID](user_manager, [by_jwt, by_database])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)
app.include_router(users.get_auth_router(by_jwt), prefix="/jwt")
app.include_router(users.get_auth_router(by_database), prefix="/database")
app.include_router(users.get_register_router(schemas.BaseUser[UUID], schemas.BaseUserCreate))
app.include_router(users.get_reset_password_router())


@app.get("/ping")
async def ping() -> str:
    """Answer without any work."""
    return "pong"


def add_reader(backend: AuthenticationBackend) -> None:
    """Add a route for the current user by one strategy."""
    current = users.current_user(active=True, get_enabled_backends=lambda: [backend])

    @app.get(f"/me/{backend.name}")
    async def me(user: Annotated[User, Depends(current)]) -> str:
        return user.email


add_reader(by_jwt)
add_reader(by_database)
