"""Create an index without blocking writes."""

from alembic import op

revision = "purchase_index"
down_revision = "first"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index("ix_purchase_customer_id", "purchase", ["customer_id"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index("ix_purchase_customer_id", "purchase")
