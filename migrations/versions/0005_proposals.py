"""proposals: what needs a second person"""

import sqlalchemy as sa
from alembic import op

revision = "0005_proposals"
down_revision = "0004_views"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "proposal",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("release_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("proposed_by", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.String(length=80), server_default="", nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=16), server_default="open", nullable=False),
        sa.CheckConstraint("state IN ('open', 'confirmed', 'withdrawn')", name=op.f("ck_proposal_state")),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name=op.f("fk_proposal_release_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
    )
    with op.batch_alter_table("proposal") as table:
        table.create_index(op.f("ix_proposal_release_id"), ["release_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("proposal") as table:
        table.drop_index(op.f("ix_proposal_release_id"))
    op.drop_table("proposal")
