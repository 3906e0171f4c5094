"""Budgets, what is spent of them, what is leased to processes, and who is to be told."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_1730"
down_revision = "2026_11_26_1720"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
APP, LEDGER = "wattos_app", "wattos_ledger"
GRANTS = {
    "budgets": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "budget_spending": ("SELECT, INSERT", "SELECT, INSERT, UPDATE"),
    "budget_leases": ("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    "budget_alerts": ("SELECT, DELETE", "SELECT, INSERT, UPDATE"),
}
"""What the app and the ledger may do with each table."""


def upgrade() -> None:
    uuid, text, number, moment = sa.Uuid(), sa.Text(), sa.BigInteger(), sa.DateTime(timezone=True)
    op.create_table(
        "budgets",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("id", uuid, nullable=False),
        sa.Column("scope", text, nullable=False),
        sa.Column("user_id", uuid),
        sa.Column("key_id", uuid),
        sa.Column("model", text),
        sa.Column("period", text, nullable=False),
        sa.Column("amount_nusd", number, nullable=False),
        sa.Column("allow_unpriced", sa.Boolean(), nullable=False),
        sa.Column("webhook_url", text),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_budgets"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_budgets_tenants", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"], ["users.tenant_id", "users.id"], name="fk_budgets_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "key_id"],
            ["api_keys.tenant_id", "api_keys.id"],
            name="fk_budgets_api_keys",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "tenant_id",
            "scope",
            "user_id",
            "key_id",
            "model",
            "period",
            name="uq_budgets_of_one",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "budget_spending",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("budget_id", uuid, nullable=False),
        sa.Column("period_start", moment, nullable=False),
        sa.Column("spent_nusd", number, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id", "period_start", name="pk_budget_spending"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "budget_id"],
            ["budgets.tenant_id", "budgets.id"],
            name="fk_budget_spending_budgets",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "budget_leases",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("budget_id", uuid, nullable=False),
        sa.Column("period_start", moment, nullable=False),
        sa.Column("holder", text, nullable=False),
        sa.Column("granted_nusd", number, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id", "period_start", "holder", name="pk_budget_leases"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "budget_id"],
            ["budgets.tenant_id", "budgets.id"],
            name="fk_budget_leases_budgets",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_budget_leases_holder", "budget_leases", ["holder"])
    op.create_table(
        "budget_alerts",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("budget_id", uuid, nullable=False),
        sa.Column("period_start", moment, nullable=False),
        sa.Column("percent", sa.SmallInteger(), nullable=False),
        sa.Column("spent_nusd", number, nullable=False),
        sa.Column("amount_nusd", number, nullable=False),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", moment, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("tenant_id", "budget_id", "period_start", "percent", name="pk_budget_alerts"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "budget_id"],
            ["budgets.tenant_id", "budgets.id"],
            name="fk_budget_alerts_budgets",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_budget_alerts_due",
        "budget_alerts",
        ["next_try_at"],
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
    )
    own = f"tenant_id = {CURRENT_TENANT}"
    for table, (of_app, of_ledger) in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_tenant ON {table} TO PUBLIC USING ({own}) WITH CHECK ({own})")
        op.execute(f"CREATE POLICY ledger ON {table} TO {LEDGER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT {of_app} ON {table} TO {APP}")
        op.execute(f"GRANT {of_ledger} ON {table} TO {LEDGER}")
    op.execute(f"GRANT UPDATE (created_at) ON budgets TO {LEDGER}")  # what FOR KEY SHARE takes; nothing updates it
    # Each statement of a function sees what was committed before it: the sum is taken after the row is locked.
    op.execute(
        """
        CREATE FUNCTION lease_budget(
          of_tenant uuid, of_budget uuid, begins timestamptz, for_holder text,
          needed bigint, smallest bigint, wished bigint, lease interval, grace interval
        ) RETURNS TABLE (granted bigint, remaining bigint)
        LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        DECLARE
          amount bigint;
          given bigint;
        BEGIN
          -- Locked first, as by whoever deletes it: what follows refers to it.
          SELECT amount_nusd INTO amount FROM budgets WHERE tenant_id = of_tenant AND id = of_budget FOR KEY SHARE;
          IF amount IS NULL THEN RETURN; END IF;
          DELETE FROM budget_leases l  -- it lapsed, and others may have been lent its money
            WHERE l.tenant_id = of_tenant AND l.budget_id = of_budget AND l.period_start = begins
              AND l.holder = for_holder AND l.expires_at + grace <= clock_timestamp();
          INSERT INTO budget_spending VALUES (of_tenant, of_budget, begins, 0) ON CONFLICT DO NOTHING;
          SELECT amount - spent_nusd INTO remaining FROM budget_spending
            WHERE tenant_id = of_tenant AND budget_id = of_budget AND period_start = begins FOR UPDATE;
          SELECT remaining - coalesce(sum(l.granted_nusd), 0) INTO remaining FROM budget_leases l
            WHERE l.tenant_id = of_tenant AND l.budget_id = of_budget AND l.period_start = begins
              AND (l.holder = for_holder OR l.expires_at + grace > clock_timestamp());
          given := least(remaining, greatest(needed, least(wished, remaining / 20)));
          IF given < smallest OR given < 0 THEN given := 0; END IF;
          INSERT INTO budget_leases AS l
            VALUES (of_tenant, of_budget, begins, for_holder, given, clock_timestamp() + lease)
            ON CONFLICT (tenant_id, budget_id, period_start, holder) DO UPDATE
              -- Below zero where the amount was lowered: then what was lent is taken back.
              SET granted_nusd = greatest(l.granted_nusd + least(remaining, 0), 0) + excluded.granted_nusd,
                  expires_at = excluded.expires_at
            RETURNING l.granted_nusd INTO granted;
          remaining := greatest(remaining - given, 0);
          RETURN NEXT;
        END $$
        """
    )
    op.execute(
        f"""
        REVOKE ALL ON FUNCTION lease_budget(uuid, uuid, timestamptz, text, bigint, bigint, bigint, interval, interval)
        FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION
        lease_budget(uuid, uuid, timestamptz, text, bigint, bigint, bigint, interval, interval) TO {LEDGER}
        """
    )
    op.execute(
        """
        CREATE FUNCTION announce_budget() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        DECLARE one budgets;
        BEGIN
          one := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
          PERFORM pg_notify('changes', '62' || replace(one.tenant_id::text, '-', ''));
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER announce_budget AFTER INSERT OR UPDATE OR DELETE ON budgets"
        " FOR EACH ROW EXECUTE FUNCTION announce_budget()"
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION lease_budget(uuid, uuid, timestamptz, text, bigint, bigint, bigint, interval, interval)")
    for table in reversed(GRANTS):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION announce_budget()")
