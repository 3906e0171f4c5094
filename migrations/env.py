"""Alembic's entry: one transaction per run, on the connection that `app.database.migrate` hands over."""

from alembic import context

from app.database.migrate import VERSION_TABLE, is_ours, target_metadata

config = context.config
connection = config.attributes["connection"]

context.configure(
    connection=connection,
    target_metadata=target_metadata(),
    include_object=is_ours,
    version_table=VERSION_TABLE,
    compare_type=True,
)
# No `autocommit_block`: a failed upgrade must leave nothing behind.
with context.begin_transaction():
    context.run_migrations()
