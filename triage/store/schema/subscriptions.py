"""Who hears of changes of the reading list's steps, and how much of it they were told (PS3.4 CC.2.3)."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, String, Table

from triage.store.schema.columns import Id, UtcTime, metadata

subscriber = Table(
    "subscriber",
    metadata,
    Column("ae_title", String(16), primary_key=True),
    Column(
        "owner", String(80), nullable=False
    ),  # token, or "dicom:" and an AE title: nobody takes another's channel
    Column(
        "told_up_to", Id, nullable=False
    ),  # workitem_event; what came since is told when the channel opens again
    Column("created_at", UtcTime, nullable=False),
)

subscription = Table(
    "subscription",
    metadata,
    Column("ae_title", String(16), ForeignKey("subscriber.ae_title"), primary_key=True),
    Column("workitem_uid", String(64), primary_key=True),  # of a step, or a global one
    Column("wanted", Boolean, nullable=False),  # false: all but this
    Column(
        "matching", JSON(none_as_null=True)
    ),  # of the filtered global one: what steps must match to be subscribed
)
