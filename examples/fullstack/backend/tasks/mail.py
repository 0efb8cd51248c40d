"""Tasks that send mail, in the background."""

from appkit import Mail, TaskContext, TaskRouter
from appkit.domain.events import UserSignedUp

from repository.models import User

router = TaskRouter()


@router.on(UserSignedUp)
async def send_welcome_mail(event: UserSignedUp, ctx: TaskContext) -> None:
    """Send a welcome mail to a new user."""
    async with ctx.session() as db:
        user = await db.get_one(User, event.user_id)
    text = f"Hello {user.name},\n\nyour desk at Pilcrow is ready. Write something: {ctx.settings.frontend.url or ''}\n"
    await ctx.mailer.send(Mail(to=user.email, subject="Welcome to Pilcrow", text=text))
