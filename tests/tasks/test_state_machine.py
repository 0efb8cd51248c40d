"""Workers act in a random order: a task has one owner, limited attempts, and a final end."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select, update

from appkit.core.settings import TasksSettings
from appkit.repository.base import Base, utcnow
from appkit.repository.database import Database
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import OutboxTask, TaskPolicy
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import ClaimedTask, Finished
from appkit.tasks.maintenance import Maintenance

POLICY = TaskPolicy(name="jobs:any", max_attempts=2)
ENDED = {"done", "dead", "cancelled"}
MOVES = ["finish", "retry", "retry later", "die", "drop", "report", "renew", "exchange"]
owners = st.sampled_from([0, 1])


class Machine(RuleBasedStateMachine):
    """Two workers. They continue with tasks even after they have lost the lease."""

    runner: asyncio.Runner
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.queues = [TaskQueue(self.database, TasksSettings(lease=60)) for _ in range(2)]
        self.claims: list[tuple[int, ClaimedTask]] = []
        self.ends: dict[int, str] = {}
        self.run(self.execute(delete(OutboxTask)))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def execute(self, statement: Any) -> None:
        async with self.database.session() as db:
            await db.execute(statement)

    async def rows(self) -> list[OutboxTask]:
        async with self.database.read_session() as db:
            return list(await db.scalars(select(OutboxTask)))

    @rule(ordered=st.booleans(), later=st.booleans())
    def add(self, ordered: bool, later: bool) -> None:
        async def add() -> None:
            async with self.database.session() as db:
                policy = TaskPolicy(
                    name=POLICY.name,
                    max_attempts=2,
                    ordering_key="key" if ordered else None,
                    delay=60 if later else None,
                )
                add_task(db, policy)

        self.run(add())

    @rule(owner=owners)
    def claim(self, owner: int) -> None:
        held = {row.id for row in self.run(self.rows()) if row.state == "running"}
        claimed = self.run(self.queues[owner].claim([POLICY.name], limit=2))
        assert not held & {task.id for task in claimed}
        self.claims += [(owner, task) for task in claimed]

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        how=st.sampled_from(["finish", "retry", "retry later", "die", "drop", "report", "renew", "exchange"]),
    )
    def act(self, data: st.DataObject, how: str) -> None:
        owner, task = data.draw(st.sampled_from(self.claims))
        queue = self.queues[owner]
        before = {row.id: row for row in self.run(self.rows())}[task.id]
        mine = (before.state, before.lease_owner, before.attempts) == ("running", queue.owner, task.attempts)
        match how:
            case "finish":
                changed = self.run(queue.finish(task))
            case "retry":
                changed = self.run(queue.fail(task, "failed", retry_in=0 if task.attempts < 2 else None))
            case "retry later":
                changed = self.run(queue.fail(task, "failed", retry_in=60 if task.attempts < 2 else None))
            case "die":
                changed = self.run(queue.fail(task, "failed", retry_in=None))
            case "drop":
                changed = self.run(queue.cancel_claimed(task, "dropped", "TASK_DISCARDED"))
            case "report":
                changed = self.run(queue.report_progress(task, {"percent": 1}))
            case "renew":
                changed = bool(self.run(queue.renew([task])))
            case _:
                changed = bool(self.run(queue.exchange([Finished(task, 1)], [], room=lambda: 0))[0])
        assert changed is mine

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if rows := self.run(self.rows()):
            row = data.draw(st.sampled_from(sorted(rows, key=lambda row: row.id)))
            assert self.run(self.queues[0].cancel(row.task_id)) is (row.state not in ENDED)

    @rule(owner=owners)
    def release(self, owner: int) -> None:
        self.run(self.queues[owner].release())

    @rule()
    def pass_time(self) -> None:
        past = utcnow() - timedelta(days=1)
        self.run(self.execute(update(OutboxTask).where(OutboxTask.state == "running").values(leased_until=past)))
        self.run(self.execute(update(OutboxTask).where(OutboxTask.state == "scheduled").values(run_at=past)))

    @rule()
    def tick(self) -> None:
        self.run(Maintenance(self.database, TasksSettings(lease=60)).process_overdue())

    @invariant()
    def holds(self) -> None:
        rows = self.run(self.rows())
        for row in rows:
            assert 0 <= row.attempts <= 2
            assert (row.state == "running") == (row.lease_owner is not None)
            assert (row.state in ENDED) == (row.finished_at is not None) == (row.keep_until is not None)
            assert self.ends.setdefault(row.id, row.state) == row.state if row.id in self.ends else True
            if row.state in ENDED:
                self.ends[row.id] = row.state
        assert sum(row.state == "running" and row.ordering_key is not None for row in rows) <= 1


def test_rows_change_hands_by_the_rules(database_url: str) -> None:
    examples = settings(
        max_examples=15, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck]
    )
    with asyncio.Runner() as runner:
        database = Database(database_url)

        async def create() -> None:
            async with database.engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all, [Base.metadata.tables["appkit_outbox"]])

        runner.run(create())
        machine = type("Outbox", (Machine,), {"runner": runner, "database": database})
        run_state_machine_as_test(machine, settings=examples)
        runner.run(database.dispose())
