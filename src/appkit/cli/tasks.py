"""`appkit tasks`: list, retry, cancel and prune background tasks."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from appkit.cli.discovery import find_kit, run_in_session
from appkit.cli.output import AsJson, KitOption, show

if TYPE_CHECKING:
    from appkit.repository.outbox import TaskState
    from appkit.service.tasks import TaskService

T = TypeVar("T")

State = Literal["scheduled", "pending", "published", "running", "done", "dead", "cancelled"]
TaskId = Annotated[str, typer.Argument(help="The task's id.")]
Queue = Annotated[str | None, typer.Option(help="Only tasks in this queue.")]
Name = Annotated[str | None, typer.Option(help="Only tasks with this name.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="The maximum number of tasks.")]

cli = typer.Typer(help="Manage background tasks.", no_args_is_help=True)


@cli.command("list")
def list_(
    *,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    queue: Queue = None,
    name: Name = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    kit: KitOption = None,
) -> None:
    """List tasks, the newest first."""
    page = _run(kit, lambda tasks: tasks.page(state=_state(state), queue=queue, name=name, size=limit))
    names = ("task_id", "task_name", "queue", "state", "attempts", "created_at", "error_code", "last_error")
    rows: list[dict[str, Any]] = [{name: getattr(task, name) for name in names} for task in page.items]
    if not as_json:
        for row in rows:
            row["created_at"] = f"{row['created_at']:%Y-%m-%d %H:%M:%S}"
            row["last_error"] = (row["last_error"] or "").partition("\n")[0][:60]
    show(rows, as_json=as_json)


@cli.command()
def dead(
    *, queue: Queue = None, name: Name = None, limit: Limit = 50, as_json: AsJson = False, kit: KitOption = None
) -> None:
    """List dead tasks and their errors."""
    list_(state="dead", queue=queue, name=name, limit=limit, as_json=as_json, kit=kit)


@cli.command("show")
def show_(task_id: TaskId, *, as_json: AsJson = False, kit: KitOption = None) -> None:
    """Show all fields of a task."""
    task = _run(kit, lambda tasks: tasks.get(task_id))
    values = {column.key: getattr(task, column.key) for column in type(task).__table__.columns}
    if as_json:
        show([values], as_json=True)
    else:
        show([{"field": key, "value": value} for key, value in values.items() if value is not None], as_json=False)


@cli.command()
def retry(
    task_id: Annotated[str | None, typer.Argument(help="The task's id.", show_default=False)] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Retry all dead tasks.")] = False,
    name: Name = None,
    kit: KitOption = None,
) -> None:
    """Run a dead or cancelled task again, or all dead tasks with --all."""
    if (task_id is None) == (not everything):
        raise typer.BadParameter("Give the id of a task, or --all.")
    if task_id is not None:
        _run(kit, lambda tasks: tasks.retry(task_id))
        typer.echo(f"{task_id} runs again.")
    else:
        typer.echo(f"{_run(kit, lambda tasks: tasks.retry_dead(name=name))} tasks run again.")


@cli.command()
def cancel(task_id: TaskId, *, kit: KitOption = None) -> None:
    """Cancel a task. If the task is running, it is interrupted within seconds."""
    _run(kit, lambda tasks: tasks.cancel(task_id))
    typer.echo(f"{task_id} is cancelled.")


@cli.command()
def prune(
    *,
    days: Annotated[float, typer.Option(min=0, help="Only tasks that ended at least this number of days ago.")] = 0,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state: done, dead or cancelled.")] = None,
    kit: KitOption = None,
) -> None:
    """Delete ended tasks before the end of their retention time."""
    count = _run(kit, lambda tasks: tasks.prune(older_than=timedelta(days=days), state=_state(state)))
    typer.echo(f"{count} tasks deleted.")


@cli.command()
def stats(*, as_json: AsJson = False, kit: KitOption = None) -> None:
    """Show queue depth, waiting time and durations."""
    values = asdict(_run(kit, lambda tasks: tasks.stats()))
    if as_json:
        show([values], as_json=True)
        return
    depth = values.pop("depth")
    show(
        [{"queue": q, "state": s, "tasks": n} for q, states in sorted(depth.items()) for s, n in states.items()],
        as_json=False,
    )
    show([{key: round(value, 3) if value else value for key, value in values.items()}], as_json=False)


def _state(name: State | None) -> "TaskState | None":
    from appkit.repository.outbox import TaskState

    return None if name is None else TaskState(name)


def _run(target: str | None, work: "Callable[[TaskService], Awaitable[T]]") -> T:
    from appkit.service.tasks import TaskService

    return run_in_session(find_kit(target).kit, lambda db: work(TaskService(db)))
