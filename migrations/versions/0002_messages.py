"""messages in, reports, on-call calendar, drills, replays"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0002_messages"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ORDER_TEXTS = {
    "placer_namespace": 80,
    "filler_namespace": 80,
    "procedure_code": 80,
    "procedure_text": 200,
    "modality": 16,
    "patient_class": 16,
    "ordering_provider": 200,
}
ORDER_TIMES = ("requested_at", "said_at", "changed_at")


def upgrade() -> None:
    _message()
    _report()
    _on_call()
    op.add_column("alert", sa.Column("drill", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    with _attempts_aside(), op.batch_alter_table("delivery") as batch:
        batch.add_column(sa.Column("replay", sa.Integer(), server_default="0", nullable=False))
        batch.add_column(_text("recipient", 200))
        batch.drop_constraint("uq_delivery_alert_id_route_rung_kind", type_="unique")
        batch.create_unique_constraint(
            "uq_delivery_alert_id_route_rung_kind_replay", ["alert_id", "route", "rung", "kind", "replay"]
        )
    with op.batch_alter_table("order") as batch:
        batch.add_column(sa.Column("patient_id", ID, nullable=True))
        for name, length in ORDER_TEXTS.items():
            batch.add_column(_text(name, length))
        for name in ORDER_TIMES:
            batch.add_column(sa.Column(name, UtcTime(), nullable=True))
        batch.create_index("ix_order_patient_id", ["patient_id"])
        batch.create_index("order_filler", ["filler_order_number"])
        batch.create_index("order_placer", ["placer_order_number"])
        batch.create_foreign_key("fk_order_patient_id", "patient", ["patient_id"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("order") as batch:
        batch.drop_constraint("fk_order_patient_id", type_="foreignkey")
        for index in ("order_placer", "order_filler", "ix_order_patient_id"):
            batch.drop_index(index)
        for name in ("patient_id", *ORDER_TEXTS, *ORDER_TIMES):
            batch.drop_column(name)
    replays = "SELECT id FROM delivery WHERE replay > 0"
    op.execute(f"DELETE FROM delivery_attempt WHERE delivery_id IN ({replays})")
    op.execute("DELETE FROM delivery WHERE replay > 0")
    with _attempts_aside(), op.batch_alter_table("delivery") as batch:
        batch.drop_constraint("uq_delivery_alert_id_route_rung_kind_replay", type_="unique")
        batch.create_unique_constraint(
            "uq_delivery_alert_id_route_rung_kind", ["alert_id", "route", "rung", "kind"]
        )
        batch.drop_column("recipient")
        batch.drop_column("replay")
    op.drop_column("alert", "drill")
    for table in ("on_call", "report", "message"):
        op.drop_table(table)


class _attempts_aside:
    """SQLite rebuilds `delivery` by dropping it, which its children forbid: they wait beside it meanwhile."""

    def __enter__(self) -> None:
        self.needed = op.get_bind().dialect.name == "sqlite"
        if self.needed:
            op.execute("CREATE TEMPORARY TABLE aside AS SELECT * FROM delivery_attempt")
            op.execute("DELETE FROM delivery_attempt")

    def __exit__(self, *_: object) -> None:
        if self.needed:
            op.execute("INSERT INTO delivery_attempt SELECT * FROM aside")
            op.execute("DROP TABLE aside")


def _text(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), server_default="", nullable=False)


def _message() -> None:
    op.create_table(
        "message",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("sender", sa.String(160), nullable=False),
        sa.Column("control_id", sa.String(199), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        _text("address", 60),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("state", sa.String(16), server_default="received", nullable=False),
        _text("code", 2),
        _text("error", 3),
        _text("reason", 400),
        _text("accession_number", 64),
        _text("study_instance_uid", 64),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('received', 'applied', 'ignored', 'refused', 'parked')", name="ck_message_state"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
    )
    op.create_index("ix_message_accession_number", "message", ["accession_number"])
    op.create_index("message_repeat", "message", ["sender", "control_id"])
    waiting = sa.text("state = 'received'")
    op.create_index("message_received", "message", ["id"], sqlite_where=waiting, postgresql_where=waiting)


def _report() -> None:
    op.create_table(
        "report",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("study_id", ID, nullable=True),
        sa.Column("message_id", ID, nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        _text("study_instance_uid", 64),
        _text("accession_number", 64),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("reported_at", UtcTime(), nullable=True),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('preliminary', 'final', 'addendum', 'withdrawn')", name="ck_report_state"
        ),
        sa.ForeignKeyConstraint(["message_id"], ["message.id"], name="fk_report_message_id"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_report_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_report"),
        sa.UniqueConstraint("digest", name="uq_report_digest"),
    )
    for column in ("accession_number", "message_id", "study_id", "study_instance_uid"):
        op.create_index(f"ix_report_{column}", "report", [column])


def _on_call() -> None:
    op.create_table(
        "on_call",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("site", sa.String(40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(80), nullable=False),
        _text("contact", 200),
        sa.Column("starts_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.Column("made_by", sa.String(80), nullable=False),
        sa.CheckConstraint("ends_at > starts_at", name="ck_on_call_order"),
        sa.CheckConstraint("place IN (1, 2)", name="ck_on_call_place"),
        sa.PrimaryKeyConstraint("id", name="pk_on_call"),
    )
    op.create_index("on_call_time", "on_call", ["site", "place", "starts_at"])
