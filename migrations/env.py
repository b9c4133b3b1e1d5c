"""Alembic's entry: one connection handed in by `triage.store.migrate`, batch mode for SQLite."""

from alembic import context

from triage.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
