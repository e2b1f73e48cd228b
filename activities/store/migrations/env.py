"""Runs migrations on the connection that `activities.store.migrations.upgrade` hands over."""

from alembic import context

from activities.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
