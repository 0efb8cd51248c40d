"""Sign in with a link in an e-mail, without a password.

Turn it on with `AppKit(plugins=[magic_link])`. It needs no further package.
"""

from html import escape
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from appkit import (
    BaseService,
    BaseUser,
    DbSession,
    Email,
    Event,
    LinkService,
    Mail,
    Schema,
    SettingsGroup,
    SigninAnswer,
    TaskContext,
    TaskRouter,
    UserService,
    complete_signin,
    errors,
    hookimpl,
    limit,
)
from appkit.exceptions import InvalidTokenException, TooManyRequestsException

PURPOSE: Final = "magic_link"
BY_ADDRESS: Final = "20/hour"

router = APIRouter(prefix="/auth/magic", tags=["auth"])
tasks = TaskRouter()


class MagicLinkSettings(SettingsGroup):
    """Signing in with a link in an e-mail."""

    ttl: int = Field(default=900, gt=0)
    """How many seconds a link is valid."""


class MagicLinkRequested(Event):
    """A sign-in link was requested for an e-mail address. The address may have no account."""

    email: str


class MagicLinkSchema(Schema, extra="forbid"):
    """A request for a sign-in link."""

    email: Email


class MagicSigninSchema(Schema, extra="forbid"):
    """The token of a sign-in link."""

    token: SecretStr = Field(max_length=256)
    remember: bool = False
    """Whether the user stays signed in after the browser is closed."""


class MagicLinkService(BaseService):
    """Links that sign people in."""

    async def ask(self, email: str) -> None:
        """Request a link. A task looks up the account, so the response time doesn't reveal whether one exists."""
        self.emit(MagicLinkRequested(email=email))

    async def write(self, email: str, *, retry: bool = False) -> Mail | None:
        """Write the mail with a new link.

        Returns None when there is no open account. Also when the mailbox has enough links, unless this is a `retry`.
        """
        user, links = await UserService(self.db).find(email, lock=True), LinkService(self.db)
        ttl, url = self.settings.group(MagicLinkSettings).ttl, self.settings.frontend.url
        if user is None or not user.is_open or (not retry and await links.has_enough(user, PURPOSE, ttl=ttl)):
            return None
        # Anybody can request a link, so it must not void the link that the owner is using.
        token = await links.make(user, PURPOSE, ttl=ttl, others=True)
        # The token follows the #, because no server log and no Referer header contains this part of a URL.
        link = f"{url.rstrip('/')}/magic-link#token={token}" if url else token
        custom: Mail | None = await self.plugins.first("write_mail", kind=PURPOSE, user=user, to=user.email, link=link)
        return custom or _compose(self.settings.app_name, user.email, link)

    async def use(self, token: str) -> BaseUser:
        """The user of a link. Using the link proves the e-mail address, and takes over an account that is not verified.

        Raises:
            InvalidTokenException: When the link is used or expired.
        """
        used = await LinkService(self.db).consume(token, PURPOSE)
        users = UserService(self.db)
        user = await users.get(used.user_id)
        await users.take_over(user)
        return user


@router.post("", status_code=202, dependencies=[Depends(limit(BY_ADDRESS))], responses=errors(TooManyRequestsException))
async def ask_for_magic_link(payload: MagicLinkSchema, db: DbSession) -> None:
    """Request a mail with a sign-in link. The answer is the same with and without an account."""
    await MagicLinkService(db).ask(payload.email)


@router.post("/signin", responses=errors(InvalidTokenException))
async def sign_in_by_magic_link(
    payload: MagicSigninSchema, request: Request, response: Response, db: DbSession
) -> SigninAnswer:
    """Sign in with the token from the mail."""
    user = await MagicLinkService(db).use(payload.token.get_secret_value())
    return await complete_signin(request, response, db, user, methods=["email"], remember=payload.remember)


@tasks.on(MagicLinkRequested, name="appkit.magic_link:send")
async def send_magic_link(event: MagicLinkRequested, task: TaskContext) -> None:
    """Mail a sign-in link, if the e-mail address has an account."""
    # The token is committed before the mail is sent, because a mail can't be rolled back. A retry makes a new token.
    async with task.session() as db:
        mail = await MagicLinkService(db).write(event.email, retry=task.attempt > 1)
    if mail is not None:
        await task.mailer.send(mail)


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `MAGIC_LINK_…`."""
    return {"magic_link": MagicLinkSettings}


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/auth/magic`."""
    return [router]


@hookimpl
def register_tasks() -> list[TaskRouter]:
    """Add the task that mails the link."""
    return [tasks]


def _compose(app: str, to: str, link: str) -> Mail:
    before = f"Somebody asked to sign in to {app} with this address. If that was you, continue here:"
    after = "If it wasn't you, ignore this mail."
    shown = f'<a href="{escape(link)}">Sign in</a>' if "://" in link else f"<code>{link}</code>"
    return Mail(
        to=to,
        subject=f"Sign in to {app}",
        text=f"{before}\n\n{link}\n\n{after}",
        html="\n".join(f"<p>{part}</p>" for part in (escape(before), shown, escape(after))),
    )
