"""Limits: how often, how much and how many at once, per tenant, user and key."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_1700"
down_revision = "2026_11_24_0900"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
APP = "wattos_app"


def upgrade() -> None:
    uuid, number, moment = sa.Uuid(), sa.BigInteger(), sa.DateTime(timezone=True)
    op.create_table(
        "limits",
        sa.Column("tenant_id", uuid, sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("scope_id", uuid, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("user_id", uuid),
        sa.Column("key_id", uuid),
        sa.Column("requests_per_minute", number),
        sa.Column("tokens_per_minute", number),
        sa.Column("max_concurrency", number),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", moment, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "scope_id", name="pk_limits"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"], ["users.tenant_id", "users.id"], name="fk_limits_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "key_id"],
            ["api_keys.tenant_id", "api_keys.id"],
            name="fk_limits_api_keys",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "CASE scope WHEN 'tenant' THEN scope_id = tenant_id AND num_nonnulls(user_id, key_id) = 0"
            " WHEN 'user' THEN scope_id = user_id AND key_id IS NULL"
            " WHEN 'key' THEN scope_id = key_id AND user_id IS NULL ELSE false END",
            name="ck_limits_scope",
        ),
        sa.CheckConstraint(
            "least(requests_per_minute, tokens_per_minute, max_concurrency) >= 1", name="ck_limits_positive"
        ),
    )
    for column in ("user_id", "key_id"):
        op.create_index(f"ix_limits_tenant_id_{column}", "limits", ["tenant_id", column])
    op.execute("ALTER TABLE limits ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE limits FORCE ROW LEVEL SECURITY")
    own = f"tenant_id = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY own_tenant ON limits TO PUBLIC USING ({own}) WITH CHECK ({own})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON limits TO {APP}")
    # 6c: `l`, the kind of handle that `plugins.contract.credentials.limits_handle` makes.
    op.execute(
        """
        CREATE FUNCTION announce_limit() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        DECLARE one limits;
        BEGIN
          one := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
          PERFORM pg_notify('changes', '6c' || replace(one.tenant_id::text, '-', ''));
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER announce_limit AFTER INSERT OR DELETE OR UPDATE ON limits"
        " FOR EACH ROW EXECUTE FUNCTION announce_limit()"
    )


def downgrade() -> None:
    op.execute("DROP TABLE limits")
    op.execute("DROP FUNCTION announce_limit()")
