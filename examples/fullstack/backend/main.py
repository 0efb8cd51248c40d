"""The desk: what it consists of, put together, and its two commands."""

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
commands = typer.Typer(help="The desk's own commands; `appkit` has the others.", no_args_is_help=True)


@commands.command()
def upgrade_database() -> None:
    """Apply the migrations that the database has not seen yet."""
    print(asyncio.run(migrate()))


@commands.command()
def seed() -> None:
    """Fill the desk with people, posts and comments to try it out with; a second time changes nothing."""
    from seed import plant

    print(asyncio.run(plant(kit)))


async def migrate() -> str:
    """Bring the database to the state that the models need."""
    try:
        return await Migrations(kit.database, kit.settings.database.migrations).upgrade()
    finally:
        await kit.database.dispose()


if __name__ == "__main__":
    commands()
