"""Tenants, keys, files, vector stores, chunks and the job queue, under row-level security from the first table on."""

from importlib import resources

import pgvector.sqlalchemy
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_1500"
down_revision = None
branch_labels = None
depends_on = None

ROLES = ("wattos_app", "wattos_auth", "wattos_platform", "wattos_jobs")
TENANT_TABLES = ("api_keys", "files", "documents", "vector_stores", "vector_store_files", "chunks")
N_PARTITIONS = 16
DEFAULT_TENANT_ID = "00000000-0000-7000-8000-000000000000"
CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# procrastinate's own migrations up to 3.10, by name: they never change, so neither does this one when the package is
# upgraded. `tests/database` fails when the installed package ships one that no migration of ours names.
PROCRASTINATE = (
    "00.00.00_01_initial.sql",
    "00.05.00_01_drop_started_at_column.sql",
    "00.05.00_02_drop_started_at_column.sql",
    "00.05.00_03_drop_procrastinate_version_table.sql",
    "00.06.00_01_fix_procrastinate_fetch_job.sql",
    "00.07.01_01_fix_trigger_status_events_insert.sql",
    "00.08.01_01_add_queueing_lock_column.sql",
    "00.10.00_01_close_fetch_job_race_condition.sql",
    "00.10.00_02_add_defer_job_function.sql",
    "00.11.00_03_add_procrastinate_periodic_defers.sql",
    "00.12.00_01_add_foreign_key_index.sql",
    "00.14.00_01_add_locks_to_periodic_defer.sql",
    "00.15.02_01_fix_procrastinate_defer_periodic_job.sql",
    "00.16.00_01_add_finish_job_and_retry_job_functions.sql",
    "00.17.00_01_add_trigger_on_job_deletion.sql",
    "00.17.00_02_delete_finished_jobs.sql",
    "00.17.00_03_add_checks_to_finish_job.sql",
    "00.17.00_04_add_checks_to_retry_job.sql",
    "00.18.01_01_fix_finish_job_compat_issue.sql",
    "00.19.00_01_add_index_on_procrastinate_jobs.sql",
    "00.22.00_01_add_kwargs_to_defer_periodic_job.sql",
    "00.23.00_01_null_locks_excluded.sql",
    "01.00.00_01_remove_old_finish_job_function.sql",
    "01.01.01_01_job_id_bigint.sql",
    "02.00.03_01_add_job_priority.sql",
    "02.05.00_01_add_periodic_job_priority.sql",
    "02.06.00_01_add_cancel_states.sql",
    "02.08.00_01_add_additional_params_to_retry_job.sql",
    "02.14.01_01_add_indexes_for_fetch_job.sql",
    "03.00.00_01_pre_cancel_notification.sql",
    "03.00.00_50_post_cancel_notification.sql",
    "03.01.00_01_pre_add_heartbeat.sql",
    "03.01.00_50_post_add_heartbeat.sql",
    "03.02.00_01_pre_batch_defer_jobs.sql",
    "03.02.00_50_post_batch_defer_jobs.sql",
    "03.03.00_01_pre_priority_lock_fetch_job.sql",
    "03.04.00_01_pre_add_retry_failed_job_procedure.sql",
    "03.04.00_50_post_add_retry_failed_job_procedure.sql",
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    _create_roles()
    _create_tables()
    _protect_tables()
    _create_queue()


def _create_roles() -> None:
    for role in ROLES:
        # Roles belong to the whole cluster: another database, or another process at this moment, may have made it.
        op.execute(
            f"""
            DO $$ BEGIN
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN NOINHERIT;
              END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $$
            """
        )
        # Where an administrator made the roles, this login is a member already and may not grant.
        op.execute(
            f"""
            DO $$ BEGIN
              GRANT {role} TO CURRENT_USER;
            EXCEPTION
              WHEN unique_violation THEN NULL;
              WHEN insufficient_privilege THEN
                IF NOT pg_has_role(current_user, '{role}', 'MEMBER') THEN RAISE; END IF;
            END $$
            """
        )
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")


def _create_tables() -> None:
    uuid, text, now = sa.Uuid(), sa.Text(), sa.func.now()
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "tenants",
        sa.Column("id", uuid, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("slug", text, nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("slug", name="uq_tenants_slug"),
    )
    op.create_table(
        "api_keys",
        _owner(),
        sa.Column("id", uuid, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("prefix", text, nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", uuid),
        sa.Column("scopes", postgresql.ARRAY(text), server_default="{}", nullable=False),
        sa.Column("models", postgresql.ARRAY(text)),
        sa.Column("expires_at", moment),
        sa.Column("revoked_at", moment),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_api_keys"),
    )
    op.create_index("uq_api_keys_key_hash", "api_keys", ["key_hash"], unique=True)
    op.create_table(
        "files",
        _owner(),
        sa.Column("id", uuid, nullable=False),
        sa.Column("filename", text, nullable=False),
        sa.Column("purpose", text, nullable=False),
        sa.Column("content_type", text),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_files"),
    )
    op.create_table(
        "documents",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("file_id", uuid, nullable=False),
        sa.Column("text", text, nullable=False),
        sa.Column("n_chars", sa.Integer(), nullable=False),
        sa.Column("parser", text, nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "file_id", name="pk_documents"),
        _foreign_key("documents", "files", ["tenant_id", "file_id"], ["tenant_id", "id"]),
    )
    op.create_table(
        "vector_stores",
        _owner(),
        sa.Column("id", uuid, nullable=False),
        sa.Column("name", text, server_default="", nullable=False),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("embedding_model", text, nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("last_active_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_vector_stores"),
    )
    op.create_table(
        "vector_store_files",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("store_id", uuid, nullable=False),
        sa.Column("file_id", uuid, nullable=False),
        sa.Column("status", text, server_default="in_progress", nullable=False),
        sa.Column("stage", text, server_default="queued", nullable=False),
        sa.Column("n_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_code", text),
        sa.Column("error_message", text),
        sa.Column("attributes", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "store_id", "file_id", name="pk_vector_store_files"),
        _foreign_key("vector_store_files", "vector_stores", ["tenant_id", "store_id"], ["tenant_id", "id"]),
        _foreign_key("vector_store_files", "files", ["tenant_id", "file_id"], ["tenant_id", "id"]),
    )
    op.create_index("ix_vector_store_files_tenant_id_file_id", "vector_store_files", ["tenant_id", "file_id"])
    op.create_table(
        "chunks",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("store_id", uuid, nullable=False),
        sa.Column("file_id", uuid, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("heading", text, server_default="", nullable=False),
        sa.Column("text", text, nullable=False),
        sa.Column("embedding", pgvector.sqlalchemy.HALFVEC(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "store_id", "file_id", "ordinal", name="pk_chunks"),
        _foreign_key("chunks", "vector_store_files", _FILE_OF_STORE, _FILE_OF_STORE),
        postgresql_partition_by="HASH (tenant_id)",
    )
    for n in range(N_PARTITIONS):
        op.execute(
            f"CREATE TABLE chunks_{n:02} PARTITION OF chunks FOR VALUES WITH (MODULUS {N_PARTITIONS}, REMAINDER {n})"
        )


_FILE_OF_STORE = ["tenant_id", "store_id", "file_id"]


def _owner() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.Uuid(), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False)


def _foreign_key(table: str, to: str, columns: list[str], referred: list[str]) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        columns, [f"{to}.{name}" for name in referred], name=f"fk_{table}_{to}", ondelete="CASCADE"
    )


def _protect_tables() -> None:
    """Forced row-level security on every table of tenants; narrow rights for the roles."""
    _protect("tenants", "id")
    for table in TENANT_TABLES:
        _protect(table, "tenant_id")
    for n in range(N_PARTITIONS):
        # A partition that is queried by its own name is a table of its own.
        _protect(f"chunks_{n:02}", "tenant_id", grant=False)
    op.execute("GRANT SELECT (id, slug) ON tenants TO wattos_auth")
    op.execute(
        "GRANT SELECT (tenant_id, id, user_id, key_hash, scopes, models, expires_at, revoked_at)"
        " ON api_keys TO wattos_auth"
    )
    op.execute("CREATE POLICY any_tenant ON tenants FOR SELECT TO wattos_auth USING (true)")
    op.execute("CREATE POLICY any_tenant_key ON api_keys FOR SELECT TO wattos_auth USING (true)")
    op.execute("GRANT SELECT ON tenants TO wattos_platform")
    op.execute(
        "GRANT SELECT (tenant_id, id, name, prefix, user_id, scopes, models, expires_at, revoked_at, created_at)"
        " ON api_keys TO wattos_platform"
    )
    op.execute("CREATE POLICY platform_tenant ON tenants FOR SELECT TO wattos_platform USING (true)")
    op.execute("CREATE POLICY platform_key ON api_keys FOR SELECT TO wattos_platform USING (true)")
    op.execute(f"SELECT set_config('app.tenant_id', '{DEFAULT_TENANT_ID}', true)")
    tenants = sa.table("tenants", sa.column("id"), sa.column("name"), sa.column("slug"))
    op.bulk_insert(tenants, [{"id": DEFAULT_TENANT_ID, "name": "Default", "slug": "default"}])
    op.execute("SELECT set_config('app.tenant_id', '', true)")


def _protect(table: str, column: str, *, grant: bool = True) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    own = f"{column} = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY own_tenant ON {table} TO PUBLIC USING ({own}) WITH CHECK ({own})")
    if grant:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO wattos_app")


def _create_queue() -> None:
    """procrastinate's tables in a schema of their own, and the one way in that checks the tenant."""
    op.execute("CREATE SCHEMA jobs")
    op.execute("SET LOCAL search_path = jobs")
    connection = op.get_bind()
    for name in PROCRASTINATE:
        script = resources.files("procrastinate.sql.migrations").joinpath(name).read_text(encoding="utf-8")
        connection.exec_driver_sql(script.replace("%", "%%"))
    op.execute("SET LOCAL search_path = public")
    op.execute("GRANT USAGE ON SCHEMA jobs TO wattos_jobs")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs TO wattos_jobs")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA jobs TO wattos_jobs")
    op.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA jobs TO wattos_jobs")
    op.execute(
        """
        CREATE FUNCTION enqueue_job(
          queue text, task text, args jsonb, queueing_lock text DEFAULT NULL, lock text DEFAULT NULL
        ) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
        DECLARE ids bigint[];
        BEGIN
          IF args->>'tenant_id' IS DISTINCT FROM NULLIF(current_setting('app.tenant_id', true), '') THEN
            RAISE insufficient_privilege USING MESSAGE = 'a job can only be enqueued for the current tenant';
          END IF;
          ids := procrastinate_defer_jobs_v1(
            ARRAY[ROW(queue, task, 0, lock, queueing_lock, args, NULL)::procrastinate_job_to_defer_v1]
          );
          RETURN ids[1];
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION enqueue_job(text, text, jsonb, text, text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION enqueue_job(text, text, jsonb, text, text) TO wattos_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION enqueue_job(text, text, jsonb, text, text)")
    op.execute("DROP SCHEMA jobs CASCADE")
    for table in (*reversed(TENANT_TABLES), "tenants"):
        op.execute(f"DROP TABLE {table}")
    for role in ROLES:
        # The role stays when another database of this cluster still uses it, or when an administrator made it.
        op.execute(
            f"""
            DO $$ BEGIN
              EXECUTE 'REVOKE USAGE ON SCHEMA public FROM {role}';
              DROP ROLE {role};
            EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
            END $$
            """
        )
    # An extension that an administrator made, or that other tables of this database use, stays.
    op.execute(
        """
        DO $$ BEGIN
          DROP EXTENSION vector;
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
        END $$
        """
    )
