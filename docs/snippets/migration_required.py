"""Set NOT NULL. Because of the validated CHECK, PostgreSQL doesn't scan the table."""

# appkit: allow AK007 the CHECK was validated one migration ago
from alembic import op

revision = "purchase_required"
down_revision = "purchase_validated"


def upgrade() -> None:
    op.alter_column("purchase", "paid_at", nullable=False)
    op.drop_constraint("ck_purchase_paid_at_filled", "purchase")


def downgrade() -> None:
    op.create_check_constraint(op.f("ck_purchase_paid_at_filled"), "purchase", "paid_at IS NOT NULL")
    op.alter_column("purchase", "paid_at", nullable=True)
