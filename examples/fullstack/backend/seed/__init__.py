"""Demo data: three users, their posts and their comments."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from appkit import AppKit
from appkit.repository.base import utcnow
from appkit.service.users import UserService
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from repository.models import Comment, Post, User

PASSWORD = "paper-and-ink"  # noqa: S105 - public, because seeding is refused in production
PEOPLE = ("demo", "mara", "jonas")
POSTS = Path(__file__).parent / "posts"


@dataclass
class Draft:
    """A post as read from its file."""

    content: str
    fields: dict[str, str] = field(default_factory=dict)
    comments: list[tuple[str, int, str]] = field(default_factory=list)


async def add_demo_data(kit: AppKit) -> str:
    """Add the demo data, unless it exists.

    Returns:
        A message with the account to sign in with.
    """
    if kit.settings.production:
        raise SystemExit("This is production, and the demo's password is public: nothing was added.")
    async with kit.lifespan(work=False), kit.session() as db:
        if await db.scalar(select(User.id).where(User.email == _address("demo"))) is None:
            await _add_rows(db)
    return f"Sign in as {_address('demo')} with the password {PASSWORD}"


async def _add_rows(db: AsyncSession) -> None:
    now = utcnow()
    people = {name: await _welcome(db, name) for name in PEOPLE}
    for draft in _drafts():
        db.add(post := _post(draft, people, now))
        await db.flush()
        for name, days, content in draft.comments:
            said = now - timedelta(days=days, hours=1)
            db.add(Comment(post_id=post.id, author_id=people[name], content=content, created_at=said))
            await db.flush()


async def _welcome(db: AsyncSession, name: str) -> UUID:
    """Create an account with a verified address; the first one is a superuser."""
    user = await UserService(db).create(_address(name), PASSWORD, superuser=name == PEOPLE[0])
    user.email_verified_at = utcnow()
    return user.id


def _post(draft: Draft, people: dict[str, UUID], now: datetime) -> Post:
    days = draft.fields["days_ago"]
    published = None if days == "draft" else now - timedelta(days=int(days), hours=3)
    written = (published or now) - timedelta(hours=5)
    return Post(
        author_id=people[draft.fields["author"]],
        title=draft.fields["title"],
        subtitle=draft.fields.get("subtitle"),
        content=draft.content,
        published_at=published,
        created_at=written,
        updated_at=published or written,
    )


def _drafts() -> Iterator[Draft]:
    """Read the files: lines of `name: value`, an empty line, and the post."""
    for path in sorted(POSTS.glob("*.md")):
        head, _, content = path.read_text(encoding="utf-8").partition("\n\n")
        draft = Draft(content.strip())
        for line in head.splitlines():
            name, _, value = line.partition(": ")
            if name == "comment":
                who, days, said = value.split(", ", 2)
                draft.comments.append((who, int(days), said))
            else:
                draft.fields[name] = value
        yield draft


def _address(name: str) -> str:
    return f"{name}@example.com"
