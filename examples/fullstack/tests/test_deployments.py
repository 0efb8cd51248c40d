"""The desk as it stands, on one SQLite file, on PostgreSQL with three instances, and on Redis with two workers."""

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import demo
import psycopg
import pytest
from deployments import deployment, worker
from sqlalchemy import select
from sqlalchemy.dialects.postgresql.base import PGDialect

from repository.models import Post
from repository.queries import FeedQuery

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "instances", "workers"), [("sqlite", 1, 0), ("postgresql", 3, 0), ("redis", 1, 2)])
def test_desk_runs_unchanged(name: str, instances: int, workers: int, tmp_path: Path) -> None:
    environment = demo.environment_for(tmp_path, demo.free_port())
    with ExitStack() as stack:
        environment |= stack.enter_context(deployment(name))
        demo.run_main("upgrade-database", environment)
        account = demo.run_main("seed", environment)
        for _ in range(workers):
            stack.enter_context(worker(environment))
        ports = [demo.free_port() for _ in range(instances)]
        for port in ports:
            stack.enter_context(demo.serve(port, environment | {"FRONTEND_URL": demo.address_of(port)}))
        for port in ports:
            demo.walk(demo.address_of(port), account, built=False)


def test_search_uses_its_index_on_postgresql(tmp_path: Path) -> None:
    (condition,) = FeedQuery(q="bread").where()
    postgresql = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's.
    query = select(Post.id).where(condition).compile(dialect=postgresql, compile_kwargs={"literal_binds": True})
    with deployment("postgresql") as variables:
        environment = demo.environment_for(tmp_path, demo.free_port()) | variables
        demo.run_main("upgrade-database", environment)
        subprocess.run([sys.executable, "-m", "appkit", "db", "check"], cwd=demo.BACKEND, env=environment, check=True)
        with psycopg.connect(re.sub(r"^\w+\+\w+", "postgresql", variables["DATABASE_URL"])) as database:
            database.execute("SET enable_seqscan = off")
            plan = "\n".join(line for (line,) in database.execute(f"EXPLAIN {query}".replace("%%", "%").encode()))
    assert "ix_post_search" in plan
