"""Prices of tenants, by target, in versions; partitions of calls that are too old can be dropped."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_1720"
down_revision = "2026_11_26_1710"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
APP, LEDGER = "wattos_app", "wattos_ledger"
NUMBERS = (
    "input_nusd_per_mtok",
    "output_nusd_per_mtok",
    "cached_nusd_per_mtok",
    "cache_write_nusd_per_mtok",
    "reasoning_nusd_per_mtok",
)


def upgrade() -> None:
    _create_prices()
    _create_retention()


def _create_prices() -> None:
    """Rows are only added, and explain what calls cost: like those they outlive their tenant."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "prices",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger()) for name in NUMBERS),
        sa.Column("valid_from", moment, nullable=False),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_prices"),
        sa.CheckConstraint(f"least({', '.join(NUMBERS)}) >= 0", name="ck_prices_not_negative"),
        sa.CheckConstraint(
            "num_nulls(input_nusd_per_mtok, output_nusd_per_mtok) IN (0, 2)", name="ck_prices_all_or_none"
        ),
    )
    own = f"tenant_id = {CURRENT_TENANT}"
    op.execute("ALTER TABLE prices ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE prices FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_tenant ON prices TO PUBLIC USING ({own}) WITH CHECK ({own})")
    op.execute(f"GRANT SELECT, INSERT ON prices TO {APP}")
    # 24: `$`, the kind of handle that `plugins.contract.credentials.prices_handle` makes.
    op.execute(
        """
        CREATE FUNCTION announce_price() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        BEGIN
          PERFORM pg_notify('changes', '24' || replace(NEW.tenant_id::text, '-', ''));
          RETURN NULL;
        END $$
        """
    )
    op.execute("CREATE TRIGGER announce_price AFTER INSERT ON prices FOR EACH ROW EXECUTE FUNCTION announce_price()")


def _create_retention() -> None:
    """A table is dropped by its owner: the ledger's role may only ask for the oldest month to go, if it is over.

    Dropping a partition locks `calls`, and whoever asks for it meanwhile waits behind: not for longer than this.
    """
    op.execute(
        """
        CREATE FUNCTION drop_calls_partition(before timestamptz) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
        DECLARE
          newest_that_goes text := 'calls_' || to_char(
            (date_trunc('month', before, 'UTC') - interval '1 day') AT TIME ZONE 'UTC', 'YYYYMM');
          name text;
        BEGIN
          SELECT relname INTO name
          FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
          WHERE inhparent = 'calls'::regclass AND relname ~ '^calls_[0-9]{6}$' AND relname <= newest_that_goes
          ORDER BY relname LIMIT 1;
          IF name IS NOT NULL THEN EXECUTE format('DROP TABLE %I', name); END IF;
          RETURN name;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION drop_calls_partition(timestamptz) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION drop_calls_partition(timestamptz) TO {LEDGER}")
    op.execute(f"GRANT DELETE ON usage_days TO {LEDGER}")


def downgrade() -> None:
    op.execute(f"REVOKE DELETE ON usage_days FROM {LEDGER}")
    op.execute("DROP FUNCTION drop_calls_partition(timestamptz)")
    op.execute("DROP TABLE prices")
    op.execute("DROP FUNCTION announce_price()")
