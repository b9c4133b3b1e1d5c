"""Who may speak with us: peers, users, sessions, tokens, and the keys that make a POST idempotent."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint, text

from triage.store.schema.columns import Id, UtcTime, id_column, metadata, one_of, ref_column

peer = Table(
    "peer",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("ae_title", String(16), nullable=False, index=True),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls", Boolean, nullable=False, server_default=text("false")),
    Column("certificate_sha256", String(64), nullable=False, server_default=""),  # shown on our TLS port
)

user = Table(
    "user",
    metadata,
    id_column(),
    Column("name", String(80), nullable=False, unique=True),
    Column("display_name", String(200), nullable=False, server_default=""),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("not_before", UtcTime),  # growing delay after wrong passwords
    Column("created_at", UtcTime, nullable=False),
    Column("preferences", JSON, nullable=False),
    one_of("role", "reader", "lead", "qa", "admin", "auditor"),
)

view = Table(  # a saved view of the list: filters, columns, density; never a text that names a patient
    "view",
    metadata,
    id_column(),
    Column("owner", String(80), nullable=False),
    Column("name", String(60), nullable=False),
    Column("shared", Boolean, nullable=False, server_default=text("false")),
    Column("default_for", String(16), nullable=False, server_default=""),  # role whose first page it is
    Column("content", JSON, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
    UniqueConstraint("owner", "name"),
)

session = Table(
    "session",
    metadata,
    Column(
        "token_digest", String(64), primary_key=True
    ),  # sha256 of the cookie: a stolen table signs nobody in
    Column("user_id", Id, ForeignKey("user.id"), nullable=False, index=True),
    Column("csrf_token", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

token = Table(
    "token",
    metadata,
    id_column(),
    Column("name", String(80), nullable=False, unique=True),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(120), primary_key=True),  # "<principal>:<Idempotency-Key>"
    Column("request_digest", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

proposal = Table(  # what needs a second person: a release made active
    "proposal",
    metadata,
    id_column(),
    ref_column("release_id", "release.id"),
    Column("proposed_by", String(80), nullable=False),
    Column("reason", String(400), nullable=False),
    Column("proposed_at", UtcTime, nullable=False),
    Column("ended_by", String(80), nullable=False, server_default=""),
    Column("ended_at", UtcTime),
    Column("state", String(16), nullable=False, server_default="open"),
    one_of("state", "open", "confirmed", "withdrawn"),
)
