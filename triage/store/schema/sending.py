"""Objects of ours on their way to peers, one row for each object and peer."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column

dispatch = Table(
    "dispatch",
    metadata,
    id_column(),
    ref_column("output_id", "output.id"),
    Column("peer", String(40), nullable=False),  # a name, not a reference: the trail outlives the peer
    Column("state", String(16), nullable=False, server_default="wanted"),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column(
        "next_attempt_at", UtcTime
    ),  # of sending while wanted, of asking for commitment while sent; None: rests
    Column("sent_at", UtcTime),
    Column("transaction_uid", String(64), nullable=False, server_default=""),  # of the commitment asked for
    Column("commit_attempts", Integer, nullable=False, server_default="0"),
    Column("committed_at", UtcTime),
    Column("begun_at", UtcTime),  # offered to the peer without a word on what became of it: it may be there
    Column(
        "outdated", Boolean, nullable=False, server_default=text("false")
    ),  # to be taken back by the sender
    UniqueConstraint("output_id", "peer"),
    one_of("state", "wanted", "sent", "committed", "refused", "parked", "withdrawn"),
    # The sender's question: what of this peer is due?
    Index(
        "dispatch_due",
        "peer",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
    # A report names its transaction.
    Index(
        "dispatch_transaction",
        "transaction_uid",
        sqlite_where=text("transaction_uid <> ''"),
        postgresql_where=text("transaction_uid <> ''"),
    ),
    # The sender's other question: what did it bring there that is out of date?
    Index("dispatch_outdated", "peer", sqlite_where=text("outdated = 1"), postgresql_where=text("outdated")),
)
