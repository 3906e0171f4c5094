"""Answers of requests with an Idempotency-Key."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_1710"
down_revision = "2026_11_26_1700"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"


def upgrade() -> None:
    # No foreign key: the platform administrator's rows belong to no tenant (the nil id), and all are gone in a day.
    op.create_table(
        "idempotent_requests",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary()),
        sa.Column("claim", sa.Uuid(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("answer", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_idempotent_requests"),
    )
    op.create_index("ix_idempotent_requests_until", "idempotent_requests", ["until"])
    # Answers are sealed, and do not become smaller by trying.
    op.execute("ALTER TABLE idempotent_requests ALTER COLUMN answer SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE idempotent_requests ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE idempotent_requests FORCE ROW LEVEL SECURITY")
    own = f"tenant_id = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY own_tenant ON idempotent_requests TO PUBLIC USING ({own}) WITH CHECK ({own})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_requests TO wattos_app")
    op.execute("CREATE POLICY old_of_any_tenant ON idempotent_requests FOR SELECT TO wattos_jobs USING (true)")
    op.execute("CREATE POLICY forget_old ON idempotent_requests FOR DELETE TO wattos_jobs USING (until < now())")
    op.execute("GRANT SELECT (tenant_id, id, until), DELETE ON idempotent_requests TO wattos_jobs")


def downgrade() -> None:
    op.drop_table("idempotent_requests")
