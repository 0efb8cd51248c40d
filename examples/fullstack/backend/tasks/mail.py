"""Mail: sent when something has happened, never while somebody waits for an answer."""

from appkit import Mail, TaskContext, TaskRouter
from appkit.domain.events import UserSignedUp

from domain.events import CommentAdded
from repository.models import Comment, Post, User

router = TaskRouter()


@router.on(UserSignedUp)
async def send_welcome_mail(event: UserSignedUp, ctx: TaskContext) -> None:
    """Say hello to somebody new."""
    async with ctx.read_session() as db:
        user = await db.get_one(User, event.user_id)
    text = f"Hello {user.name},\n\nyour desk is ready. Write something: {ctx.settings.frontend.url or ''}\n"
    await ctx.mailer.send(Mail(to=user.email, subject="Welcome to the desk", text=text))


@router.on(CommentAdded)
async def send_comment_mail(event: CommentAdded, ctx: TaskContext) -> None:
    """Tell an author what somebody else says about their post."""
    async with ctx.read_session() as db:
        comment = await db.get_one(Comment, event.comment_id)
        post = await db.get_one(Post, comment.post_id)
    if comment.author_id == post.author_id:
        return
    text = f"{comment.author.name} commented on “{post.title}”:\n\n{comment.content}\n"
    await ctx.mailer.send(Mail(to=post.author.email, subject=f"A comment on “{post.title}”", text=text))
