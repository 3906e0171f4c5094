"""Changes of keys are announced; a job needs a tenant; every login may read which revision this is."""

from alembic import op

revision = "2026_11_23_1640"
down_revision = "2026_11_23_1500"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # New keys too: that a key is unknown is remembered as well.
    op.execute(
        """
        CREATE FUNCTION announce_key_change() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM pg_notify('key_changes', (CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END)::text);
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER announce_key_change AFTER INSERT OR UPDATE OR DELETE ON api_keys"
        " FOR EACH ROW EXECUTE FUNCTION announce_key_change()"
    )
    # Before, a job without a tenant was taken from a transaction without one.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION enqueue_job(
          queue text, task text, args jsonb, queueing_lock text DEFAULT NULL, lock text DEFAULT NULL
        ) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
        DECLARE
          tenant text := NULLIF(current_setting('app.tenant_id', true), '');
          ids bigint[];
        BEGIN
          IF tenant IS NULL OR args->>'tenant_id' IS DISTINCT FROM tenant THEN
            RAISE insufficient_privilege USING MESSAGE = 'a job can only be enqueued for the current tenant';
          END IF;
          ids := procrastinate_defer_jobs_v1(
            ARRAY[ROW(queue, task, 0, lock, queueing_lock, args, NULL)::procrastinate_job_to_defer_v1]
          );
          RETURN ids[1];
        END $$
        """
    )
    op.execute("GRANT SELECT ON alembic_version TO PUBLIC")


def downgrade() -> None:
    # enqueue_job stays as it is: nothing needs the looser check.
    op.execute("REVOKE SELECT ON alembic_version FROM PUBLIC")
    op.execute("DROP TRIGGER announce_key_change ON api_keys")
    op.execute("DROP FUNCTION announce_key_change()")
