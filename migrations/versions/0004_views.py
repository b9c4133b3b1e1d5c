"""saved views of the list, a label of a study, readers who wait for a claim"""

import sqlalchemy as sa
from alembic import op

revision = "0004_views"
down_revision = "0003_identity"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "view",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("shared", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("default_for", sa.String(length=16), server_default="", nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_view")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_view_owner_name")),
    )
    with op.batch_alter_table("claim") as table:
        table.add_column(sa.Column("asked_by", sa.Text(), server_default="", nullable=False))
    with op.batch_alter_table("worklist_item") as table:
        table.add_column(sa.Column("label", sa.String(length=40), server_default="", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("worklist_item") as table:
        table.drop_column("label")
    with op.batch_alter_table("claim") as table:
        table.drop_column("asked_by")
    op.drop_table("view")
