"""Add constraints for new rows only, so that PostgreSQL doesn't scan the table."""

from alembic import op

revision = "purchase_constraints"
down_revision = "purchase_index"


def upgrade() -> None:
    op.create_foreign_key(
        "fk_purchase_customer_id_customer",
        "purchase",
        "customer",
        ["customer_id"],
        ["id"],
        postgresql_not_valid=True,
    )
    name = op.f("ck_purchase_paid_at_filled")  # op.f: the naming convention is not applied.
    op.create_check_constraint(name, "purchase", "paid_at IS NOT NULL", postgresql_not_valid=True)


def downgrade() -> None:
    op.drop_constraint("ck_purchase_paid_at_filled", "purchase")
    op.drop_constraint("fk_purchase_customer_id_customer", "purchase")
