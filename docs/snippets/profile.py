"""A forum: users with a nickname that they can change, and a websocket for signed-in users."""

from fastapi import WebSocket
from pydantic import Field
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AppKit, BaseUser, Schema, SocketUser


class ProfileSchema(Schema):
    nickname: str | None = Field(default=None, max_length=40)
    newsletter: bool = False


class User(BaseUser):
    profile = ProfileSchema

    nickname: Mapped[str | None] = mapped_column(String(40))
    newsletter: Mapped[bool] = mapped_column(default=False)
    karma: Mapped[int] = mapped_column(default=0)


kit = AppKit()
app, broker = kit.app, kit.broker


@app.websocket("/echo")
async def echo(socket: WebSocket, user: SocketUser) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{user.email} says {text}")
