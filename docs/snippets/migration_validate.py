"""Validate the constraints on existing rows, without blocking reads or writes."""

# appkit: allow AK013 a validation needs no downgrade
from alembic import op

revision = "purchase_validated"
down_revision = "purchase_constraints"


def upgrade() -> None:
    op.execute("ALTER TABLE purchase VALIDATE CONSTRAINT fk_purchase_customer_id_customer")
    op.execute("ALTER TABLE purchase VALIDATE CONSTRAINT ck_purchase_paid_at_filled")


def downgrade() -> None:
    pass
