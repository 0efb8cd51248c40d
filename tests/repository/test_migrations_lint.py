"""Each rule of the lint, with a migration that breaks the rule and a migration that follows it."""

from pathlib import Path

import pytest

from appkit.repository.database import Database
from appkit.repository.migrations import Migrations
from appkit.repository.migrations.lint import RULES, Finding, lint

FILE = """
import sqlalchemy as sa
from alembic import op
{comment}
revision = "a1"
down_revision = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
"""

BAD = {
    "AK001": 'op.add_column("t", sa.Column("x", sa.Integer, nullable=False))',
    "AK002": 'op.create_index("ix", "t", ["x"])',
    "AK003": 'op.create_index("ix", "t", ["x"], postgresql_concurrently=True)',
    "AK004": 'op.alter_column("t", "x", new_column_name="y")',
    "AK005": 'op.drop_column("t", "x")',
    "AK006": 'op.alter_column("t", "x", existing_type=sa.Integer(), type_=sa.BigInteger())',
    "AK007": 'op.alter_column("t", "x", nullable=False)',
    "AK008": 'op.create_foreign_key("fk", "t", "u", ["u_id"], ["id"])',
    "AK009": 'op.add_column("t", sa.Column("x", sa.Uuid, server_default=sa.text("gen_random_uuid()")))',
    "AK010": 'op.create_unique_constraint("uq", "t", ["x"])',
    "AK011": 'op.add_column("t", sa.Column("x", sa.Integer)); op.execute("UPDATE t SET x = 1")',
    "AK012": "op.execute(\"ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'\")",
    "AK013": 'op.add_column("t", sa.Column("x", sa.Integer))',
}
MORE_BAD = [
    ("AK001", 'with op.batch_alter_table("t") as b: b.add_column(sa.Column("x", sa.Integer, nullable=False))'),
    ("AK002", 'for x in "ab": op.create_index(f"ix_{x}", "t", [x])'),
    ("AK003", 'op.drop_index("ix", "t", postgresql_concurrently=True)'),
    ("AK004", 'op.rename_table("t", "u")'),
    ("AK005", 'op.drop_table("t")'),
    ("AK006", 'op.alter_column("t", "x", existing_type=sa.String(9), type_=sa.String(5))'),
    ("AK006", 'op.alter_column("t", "x", existing_type=sa.Enum("a", name="e"), type_=sa.String(5))'),
    ("AK008", 'op.create_check_constraint("ck", "t", "x > 0")'),
    ("AK008", 'op.add_column("t", sa.Column("u_id", sa.ForeignKey("u.id")))'),
    ("AK009", 'op.add_column("t", sa.Column("x", sa.Integer, sa.Computed("y * 2", persisted=True)))'),
    ("AK009", 'op.add_column("t", sa.Column("x", sa.Integer, sa.Identity()))'),
    ("AK010", 'op.add_column("t", sa.Column("x", sa.Integer, unique=True))'),
    ("AK011", 'op.drop_constraint("ck", "t"); op.get_bind().execute(sa.table("t").delete())'),
    ("AK011", 'op.drop_constraint("ck", "t"); op.bulk_insert(sa.table("t", sa.column("x")), [{"x": 1}])'),
    ("AK011", 'if op.get_bind().scalar(sa.text("SELECT 1")) > 0: op.drop_table("t")'),
    ("AK012", 'op.alter_column("t", "x", existing_type=sa.Enum("a", "b", name="e"), type_=sa.Enum("a", name="e"))'),
]
GOOD = [
    ("AK001", 'op.add_column("t", sa.Column("x", sa.Integer, nullable=False, server_default="1"))'),
    ("AK002", 'op.drop_index("ix", "t")'),
    (
        "AK003",
        'with op.get_context().autocommit_block(): op.create_index("ix", "t", ["x"], postgresql_concurrently=True)',
    ),
    ("AK004", 'op.alter_column("t", "x", comment="What it is")'),
    ("AK005", 'op.drop_constraint("uq", "t")'),
    ("AK006", 'op.alter_column("t", "x", existing_type=sa.String(5), type_=sa.String(9))'),
    ("AK006", 'op.alter_column("t", "x", existing_type=sa.String(5), type_=sa.Text())'),
    ("AK007", 'op.alter_column("t", "x", nullable=True)'),
    ("AK008", 'op.create_foreign_key("fk", "t", "u", ["u_id"], ["id"], postgresql_not_valid=True)'),
    ("AK008", 'op.create_check_constraint("ck", "t", "x > 0", postgresql_not_valid=True)'),
    ("AK009", 'op.add_column("t", sa.Column("x", sa.DateTime, server_default=sa.func.now()))'),
    ("AK009", 'op.add_column("t", sa.Column("x", sa.String, server_default="random()"))'),
    ("AK010", 'op.execute("ALTER TABLE t ADD CONSTRAINT uq UNIQUE USING INDEX ix")'),
    ("AK011", 'op.execute("UPDATE t SET x = 1")'),
    ("AK011", 'op.add_column("t", sa.Column("x", sa.Integer)); op.execute("SELECT 1")'),
    ("AK012", "op.execute(\"ALTER TYPE mood ADD VALUE 'glad'\")"),
]
ON_A_NEW_TABLE = """op.create_table("t", sa.Column("id", sa.Integer, primary_key=True))
    op.create_index("ix", "t", ["id"])
    op.create_unique_constraint("uq", "t", ["id"])
    op.create_foreign_key("fk", "t", "u", ["id"], ["id"])
    op.execute("INSERT INTO t VALUES (1)")
    with op.batch_alter_table("t") as batch:
        batch.add_column(sa.Column("x", sa.Integer, nullable=False))"""


@pytest.fixture
def migrations(tmp_path: Path) -> Migrations:
    return Migrations(Database("sqlite:///none.db"), tmp_path)


def findings(migrations: Migrations, upgrade: str, downgrade: str = "raise NotImplementedError", comment: str = ""):
    (migrations.directory / "a1.py").write_text(FILE.format(upgrade=upgrade, downgrade=downgrade, comment=comment))
    return [finding for script in migrations.scripts() for finding in lint(script)]


def codes(*args: str) -> list[str]:
    return [finding.code for finding in findings(*args)]  # type: ignore[arg-type]


def test_every_rule_has_a_case():
    assert list(BAD) == list(RULES)
    assert {code for code, _ in GOOD} | {"AK013"} == set(RULES)


@pytest.mark.parametrize(("code", "upgrade"), [*BAD.items(), *MORE_BAD])
def test_lint_finds_operations_that_stop_the_running_app(migrations, code, upgrade):
    assert set(codes(migrations, upgrade, "pass" if code == "AK013" else "raise NotImplementedError")) == {code}


@pytest.mark.parametrize(("code", "upgrade"), GOOD)
def test_lint_accepts_harmless_operations(migrations, code, upgrade):
    assert codes(migrations, upgrade) == []


def test_lint_accepts_a_migration_with_a_downgrade(migrations):
    assert codes(migrations, BAD["AK013"], 'op.drop_column("t", "x")') == []
    assert codes(migrations, "pass", "pass") == []


def test_lint_skips_tables_of_the_same_migration(migrations):
    assert codes(migrations, ON_A_NEW_TABLE) == []
    schema = 'op.create_table("t", sa.Column("id"), schema="s"); op.create_index("ix", "t", ["id"], schema="s")'
    assert codes(migrations, schema) == []
    assert codes(migrations, schema.replace('["id"], schema="s"', '["id"]')) == ["AK002"]


def test_a_comment_with_a_reason_allows_one_rule(migrations):
    both = f"{BAD['AK005']}; {BAD['AK010']}"
    assert codes(migrations, both) == ["AK005", "AK010"]
    comment = "# appkit: allow AK005 nothing has read it since 2.3"
    assert codes(migrations, both, "raise NotImplementedError", comment) == ["AK010"]
    assert codes(migrations, both, "raise NotImplementedError", "# appkit: allow AK005\n") == ["AK005", "AK010"]


def test_finding_names_place_problem_and_solution(migrations):
    (found,) = findings(migrations, BAD["AK001"])
    assert found == Finding("AK001", "a1", "t.x", *RULES["AK001"])
    assert [finding.where for finding in findings(migrations, MORE_BAD[1][1])] == ["t.ix_a", "t.ix_b"]
    assert findings(migrations, BAD["AK011"])[0].where == "UPDATE t SET x = 1"
