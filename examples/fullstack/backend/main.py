"""The app, assembled from its routers, tasks, plugins and settings; and two commands."""

import asyncio

import typer
from appkit import AppKit, tasks_router
from appkit.contrib import api_keys, audit, passkeys, totp
from appkit.repository.migrations import Migrations

import hooks
from api.routes import comments, exports, posts
from core.settings import DeskSettings
from repository.models import User
from tasks import exports as export_tasks, mail

kit = AppKit(
    DeskSettings(),
    routers=[posts.router, comments.router, exports.router, tasks_router],
    task_routers=[mail.router, export_tasks.router],
    plugins=[api_keys, audit, passkeys, totp],
    hooks=[hooks],
    user_model=User,
)
app, broker, get_session = kit.app, kit.broker, kit.session
commands = typer.Typer(help="The app's own commands. `appkit` has more.", no_args_is_help=True)


@commands.command()
def upgrade_database() -> None:
    """Apply pending migrations."""
    print(asyncio.run(migrate()))


@commands.command()
def seed() -> None:
    """Add demo users, posts and comments. Running it again changes nothing."""
    from seed import add_demo_data

    print(asyncio.run(add_demo_data(kit)))


async def migrate() -> str:
    """Apply pending migrations, and return the outcome."""
    try:
        return await Migrations(kit.database, kit.settings.database.migrations).upgrade()
    finally:
        await kit.database.dispose()


if __name__ == "__main__":
    commands()
