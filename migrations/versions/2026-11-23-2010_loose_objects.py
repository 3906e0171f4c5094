"""Bytes that no file answers for are noted, so that a sweep finds them; and the worker sees what lost its job."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_2010"
down_revision = "2026_11_23_1640"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"


def upgrade() -> None:
    # No foreign key: the bytes of a tenant that is gone are still to be removed.
    op.create_table(
        "loose_objects",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "file_id", name="pk_loose_objects"),
    )
    op.execute("ALTER TABLE loose_objects ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE loose_objects FORCE ROW LEVEL SECURITY")
    own = f"tenant_id = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY own_tenant ON loose_objects TO PUBLIC USING ({own}) WITH CHECK ({own})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON loose_objects TO wattos_app")
    op.execute("CREATE POLICY any_tenant ON loose_objects FOR SELECT TO wattos_jobs USING (true)")
    op.execute("GRANT SELECT ON loose_objects TO wattos_jobs")
    # However a file's row goes, its bytes are due.
    op.execute(
        """
        CREATE FUNCTION loosen_object() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        BEGIN
          INSERT INTO loose_objects (tenant_id, file_id, due_at) VALUES (OLD.tenant_id, OLD.id, now())
          ON CONFLICT DO NOTHING;
          RETURN NULL;
        END $$
        """
    )
    op.execute("CREATE TRIGGER loosen_object AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION loosen_object()")
    op.create_index(
        "ix_vector_store_files_in_progress",
        "vector_store_files",
        ["updated_at"],
        postgresql_where=sa.text("status = 'in_progress'"),
    )
    op.execute("CREATE POLICY any_tenant ON vector_store_files FOR SELECT TO wattos_jobs USING (true)")
    op.execute("GRANT SELECT (tenant_id, store_id, file_id, status, updated_at) ON vector_store_files TO wattos_jobs")


def downgrade() -> None:
    op.execute(
        "REVOKE SELECT (tenant_id, store_id, file_id, status, updated_at) ON vector_store_files FROM wattos_jobs"
    )
    op.execute("DROP POLICY any_tenant ON vector_store_files")
    op.drop_index("ix_vector_store_files_in_progress", "vector_store_files")
    op.execute("DROP TRIGGER loosen_object ON files")
    op.execute("DROP FUNCTION loosen_object()")
    op.drop_table("loose_objects")
