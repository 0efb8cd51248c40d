"""A careful handwritten app, with FastAPI, SQLAlchemy, argon2-cffi and PyJWT."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

import jwt
from anyio import to_thread
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = "nobody else has this secret of the benchmark's"  # noqa: S105 - only for the benchmark

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}")
sessions = async_sessionmaker(engine, expire_on_commit=False)
hasher = PasswordHasher()


class Base(DeclarativeBase):
    """The base of the tables."""


class User(Base):
    """A user."""

    __tablename__ = "user"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(unique=True)
    hashed_password: Mapped[str]


class Credentials(BaseModel):
    """The body of a sign-up or a sign-in."""

    email: str
    password: str


async def session() -> AsyncIterator[AsyncSession]:
    """A session for each request."""
    async with sessions() as db:
        yield db


DbSession = Annotated[AsyncSession, Depends(session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the table."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/ping")
async def ping() -> str:
    """Answer without any work."""
    return "pong"


@app.post("/signup", status_code=201)
async def signup(payload: Credentials, db: DbSession) -> str:
    """Create an account."""
    db.add(User(email=payload.email, hashed_password=await to_thread.run_sync(hasher.hash, payload.password)))
    await db.commit()
    return payload.email


@app.post("/signin")
async def signin(payload: Credentials, db: DbSession) -> dict[str, str]:
    """Sign in."""
    user = await db.scalar(select(User).filter_by(email=payload.email))
    if user is None:
        raise HTTPException(401)
    try:
        await to_thread.run_sync(hasher.verify, user.hashed_password, payload.password)
    except VerifyMismatchError:
        raise HTTPException(401) from None
    claims = {"sub": str(user.id), "exp": datetime.now(UTC) + timedelta(minutes=60)}
    return {"access_token": jwt.encode(claims, SECRET)}


@app.get("/me")
async def me(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())], db: DbSession) -> str:
    """The current user. A token is valid even after signing out."""
    claims = jwt.decode(bearer.credentials, SECRET, algorithms=["HS256"])
    return (await db.get_one(User, UUID(claims["sub"]))).email
