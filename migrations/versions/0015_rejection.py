"""rejection notes"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0015_rejection"
down_revision = "0014_evidence"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "rejection_note",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("digest", sa.String(64), server_default="", nullable=False),
        sa.Column("reason", sa.String(16), server_default="", nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("said_by", sa.String(16), server_default="", nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('unread', 'live', 'replaced', 'none', 'unreadable')",
            name=op.f("ck_rejection_note_state"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rejection_note"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_rejection_note_sop_instance_uid"),
    )
    op.create_index("ix_rejection_note_study_instance_uid", "rejection_note", ["study_instance_uid"])
    unread = sa.text("state = 'unread'")
    op.create_index(
        "rejection_note_unread", "rejection_note", ["state"], sqlite_where=unread, postgresql_where=unread
    )
    op.create_table(
        "rejected_instance",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("note_id", ID, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["note_id"], ["rejection_note.id"], name="fk_rejected_instance_note_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rejected_instance"),
        sa.UniqueConstraint(
            "note_id", "sop_instance_uid", name="uq_rejected_instance_note_id_sop_instance_uid"
        ),
    )
    op.create_index("ix_rejected_instance_note_id", "rejected_instance", ["note_id"])
    op.create_index("ix_rejected_instance_sop_instance_uid", "rejected_instance", ["sop_instance_uid"])
    op.add_column("instance", sa.Column("rejected", sa.String(16), server_default="", nullable=False))
    op.add_column("series", sa.Column("changes", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("series", "changes")
    op.drop_column("instance", "rejected")
    op.drop_table("rejected_instance")
    op.drop_table("rejection_note")
