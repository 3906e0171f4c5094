"""The ledger: one row a call in partitions by month, and its sums by day."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_0900"
down_revision = "2026_11_24_0330"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
APP, LEDGER = "wattos_app", "wattos_ledger"


def upgrade() -> None:
    op.execute(
        f"""
        DO $$ BEGIN
          IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{LEDGER}') THEN
            CREATE ROLE {LEDGER} NOLOGIN NOINHERIT;
          END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(
        f"""
        DO $$ BEGIN
          GRANT {LEDGER} TO CURRENT_USER;
        EXCEPTION
          WHEN unique_violation THEN NULL;
          WHEN insufficient_privilege THEN
            IF NOT pg_has_role(current_user, '{LEDGER}', 'MEMBER') THEN RAISE; END IF;
        END $$
        """
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {LEDGER}")
    uuid, text, number = sa.Uuid(), sa.Text(), sa.BigInteger()
    op.create_table(
        "calls",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("id", uuid, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", uuid),
        sa.Column("user_id", uuid),
        sa.Column("model", text, nullable=False),
        sa.Column("endpoint", text, nullable=False),
        sa.Column("outcome", text, nullable=False),
        sa.Column("error", text),
        sa.Column("target", text),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("input_tokens", number),
        sa.Column("output_tokens", number),
        sa.Column("cached_tokens", number),
        sa.Column("cache_write_tokens", number),
        sa.Column("reasoning_tokens", number),
        sa.Column("is_estimate", sa.Boolean(), nullable=False),
        sa.Column("cost_nusd", number),
        sa.Column("latency_ms", sa.Double()),
        sa.Column("first_token_ms", sa.Double()),
        sa.PrimaryKeyConstraint("tenant_id", "id", "time", name="pk_calls"),
        postgresql_partition_by="RANGE (time)",
    )
    op.create_table(
        "usage_days",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("model", text, nullable=False),
        sa.Column("target", text, nullable=False),
        sa.Column("key_id", uuid, nullable=False),
        sa.Column("user_id", uuid, nullable=False),
        *(
            sa.Column(name, number, nullable=False)
            for name in ("calls", "errors", "unpriced", "input_tokens", "output_tokens", "cost_nusd")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "day", "model", "target", "key_id", "user_id", name="pk_usage_days"),
    )
    own = f"tenant_id = {CURRENT_TENANT}"
    for table in ("calls", "usage_days"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_tenant ON {table} TO PUBLIC USING ({own}) WITH CHECK ({own})")
        op.execute(f"CREATE POLICY ledger ON {table} TO {LEDGER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT ON {table} TO {APP}")
    op.execute(f"GRANT SELECT, INSERT ON calls TO {LEDGER}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON usage_days TO {LEDGER}")
    # A table is made by its owner: the ledger's role may only ask for the partition of a month.
    op.execute(
        f"""
        CREATE FUNCTION make_calls_partition(moment timestamptz) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          begins timestamptz := date_trunc('month', moment, 'UTC');
          ends timestamptz := date_trunc('month', begins + interval '32 days', 'UTC');
          name text := 'calls_' || to_char(begins AT TIME ZONE 'UTC', 'YYYYMM');
          own text := $own${own}$own$;
        BEGIN
          PERFORM pg_advisory_xact_lock(hashtext(name));
          IF to_regclass(name) IS NOT NULL THEN RETURN; END IF;
          EXECUTE format('CREATE TABLE %I PARTITION OF calls FOR VALUES FROM (%L) TO (%L)', name, begins, ends);
          EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
          EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
          EXECUTE format('CREATE POLICY own_tenant ON %I TO PUBLIC USING (%s) WITH CHECK (%s)', name, own, own);
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION make_calls_partition(timestamptz) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION make_calls_partition(timestamptz) TO {LEDGER}")


def downgrade() -> None:
    op.execute("DROP FUNCTION make_calls_partition(timestamptz)")
    op.execute("DROP TABLE usage_days")
    op.execute("DROP TABLE calls")
    op.execute(
        f"""
        DO $$ BEGIN
          EXECUTE 'REVOKE USAGE ON SCHEMA public FROM {LEDGER}';
          DROP ROLE {LEDGER};
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
        END $$
        """
    )
