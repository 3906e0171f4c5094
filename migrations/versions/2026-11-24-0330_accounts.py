"""Users, sessions, sign-in, own provider keys and the audit log; what changes who may do what is announced."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_0330"
down_revision = "2026_11_23_2010"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
SIGN_IN = "wattos_sign_in"
AUTH, PLATFORM, APP = "wattos_auth", "wattos_platform", "wattos_app"
OWNED = ("users", "sessions", "refresh_tokens", "provider_keys", "audit_subjects", "audit_heads", "audit_events")


def upgrade() -> None:
    _create_role()
    _create_tables()
    for table in OWNED:
        _protect(table)
    _grant()
    _announce()
    _create_audit_log()


def _create_role() -> None:
    op.execute(
        f"""
        DO $$ BEGIN
          IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SIGN_IN}') THEN
            CREATE ROLE {SIGN_IN} NOLOGIN NOINHERIT;
          END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(
        f"""
        DO $$ BEGIN
          GRANT {SIGN_IN} TO CURRENT_USER;
        EXCEPTION
          WHEN unique_violation THEN NULL;
          WHEN insufficient_privilege THEN
            IF NOT pg_has_role(current_user, '{SIGN_IN}', 'MEMBER') THEN RAISE; END IF;
        END $$
        """
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {SIGN_IN}")


def _create_tables() -> None:
    uuid, text, now = sa.Uuid(), sa.Text(), sa.func.now()
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "users",
        _owner(),
        sa.Column("id", uuid, nullable=False),
        sa.Column("email", text, nullable=False),
        sa.Column("name", text, server_default="", nullable=False),
        sa.Column("role", text, nullable=False),
        sa.Column("password_hash", text),
        sa.Column("external_id", text),
        sa.Column("disabled_at", moment),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_users"),
        sa.UniqueConstraint("tenant_id", "email", name="uq_users_tenant_id_email"),
        sa.UniqueConstraint("tenant_id", "external_id", name="uq_users_tenant_id_external_id"),
        sa.CheckConstraint("role IN ('admin', 'editor', 'viewer')", name="ck_users_role"),
    )
    op.add_column("api_keys", sa.Column("last_used_at", moment))
    # Not valid: before there were users, a key could name any. Such a key keeps working until it is changed.
    op.execute(
        "ALTER TABLE api_keys ADD CONSTRAINT fk_api_keys_users FOREIGN KEY (tenant_id, user_id)"
        " REFERENCES users (tenant_id, id) ON DELETE CASCADE NOT VALID"
    )
    op.create_index("ix_api_keys_tenant_id_user_id", "api_keys", ["tenant_id", "user_id"])
    op.create_table(
        "sessions",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("id", uuid, nullable=False),
        sa.Column("user_id", uuid, nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("revoked_at", moment),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_sessions"),
        _foreign_key("sessions", "users", ["tenant_id", "user_id"]),
    )
    op.create_index("uq_sessions_id", "sessions", ["id"], unique=True)
    op.create_index("ix_sessions_tenant_id_user_id", "sessions", ["tenant_id", "user_id"])
    op.create_table(
        "refresh_tokens",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", uuid, nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("used_at", moment),
        sa.PrimaryKeyConstraint("tenant_id", "token_hash", name="pk_refresh_tokens"),
        _foreign_key("refresh_tokens", "sessions", ["tenant_id", "session_id"]),
    )
    op.create_index("uq_refresh_tokens_token_hash", "refresh_tokens", ["token_hash"], unique=True)
    op.create_index("ix_refresh_tokens_tenant_id_session_id", "refresh_tokens", ["tenant_id", "session_id"])
    # Of no tenant: who fails to sign in belongs to none yet. Names and addresses are kept as digests.
    op.create_table(
        "sign_in_failures",
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("n_failures", sa.Integer(), nullable=False),
        sa.Column("last_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_failures"),
    )
    op.create_index("ix_sign_in_failures_last_at", "sign_in_failures", ["last_at"])
    op.create_table(
        "provider_keys",
        _owner(),
        sa.Column("id", uuid, nullable=False),
        sa.Column("provider", text, nullable=False),
        sa.Column("name", text, server_default="", nullable=False),
        sa.Column("base_url", text),
        sa.Column("hint", text, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_provider_keys"),
        sa.UniqueConstraint("tenant_id", "provider", name="uq_provider_keys_tenant_id_provider"),
    )
    # The audit log outlives its tenants, so it refers to none.
    op.create_table(
        "audit_subjects",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("pseudonym", uuid, nullable=False),
        sa.Column("person", uuid, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("value", text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "pseudonym", name="pk_audit_subjects"),
        sa.UniqueConstraint(
            "tenant_id", "person", "kind", "value", name="uq_audit_subjects_tenant_id_person_kind_value"
        ),
    )
    op.create_table(
        "audit_heads",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_audit_heads"),
    )
    op.create_table(
        "audit_events",
        sa.Column("tenant_id", uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("id", uuid, nullable=False),
        sa.Column("payload", text, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("action", text, sa.Computed("payload::jsonb->>'action'", persisted=True)),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_audit_events"),
        sa.UniqueConstraint("tenant_id", "id", name="uq_audit_events_tenant_id_id"),
    )


def _owner() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.Uuid(), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False)


def _foreign_key(table: str, to: str, columns: list[str]) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        columns, [f"{to}.tenant_id", f"{to}.id"], name=f"fk_{table}_{to}", ondelete="CASCADE"
    )


def _protect(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    own = f"tenant_id = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY own_tenant ON {table} TO PUBLIC USING ({own}) WITH CHECK ({own})")


def _grant() -> None:
    # Hashes of passwords are written by the app and read where one signs in, nowhere else.
    shown = "tenant_id, id, email, name, role, external_id, disabled_at, created_at, updated_at"
    op.execute(f"GRANT SELECT ({shown}), INSERT, UPDATE, DELETE ON users TO {APP}")
    for table in ("sessions", "refresh_tokens", "provider_keys"):
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP}")
    op.execute(f"GRANT SELECT ON audit_events, audit_heads TO {APP}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON audit_subjects TO {APP}")

    op.execute(f"GRANT SELECT (id, slug) ON tenants TO {SIGN_IN}")
    op.execute(f"GRANT SELECT (tenant_id, id, email, password_hash, role, disabled_at) ON users TO {SIGN_IN}")
    op.execute(f"GRANT SELECT ON refresh_tokens TO {SIGN_IN}")
    op.execute("ALTER TABLE sign_in_failures ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE sign_in_failures FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY sign_in ON sign_in_failures TO {SIGN_IN} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_failures TO {SIGN_IN}")
    for table in ("tenants", "users", "refresh_tokens"):
        op.execute(f"CREATE POLICY sign_in ON {table} FOR SELECT TO {SIGN_IN} USING (true)")

    op.execute(f"GRANT SELECT (tenant_id, id, user_id, expires_at, revoked_at) ON sessions TO {AUTH}")
    op.execute(f"GRANT SELECT (tenant_id, id, role, external_id, disabled_at) ON users TO {AUTH}")
    for table in ("sessions", "users"):
        op.execute(f"CREATE POLICY any_tenant ON {table} FOR SELECT TO {AUTH} USING (true)")
    op.execute(f"GRANT SELECT (last_used_at), UPDATE (last_used_at) ON api_keys TO {AUTH}")
    op.execute(f"CREATE POLICY any_tenant_use ON api_keys FOR UPDATE TO {AUTH} USING (true) WITH CHECK (true)")

    op.execute(f"GRANT SELECT (last_used_at) ON api_keys TO {PLATFORM}")
    op.execute(f"GRANT SELECT ({shown}) ON users TO {PLATFORM}")
    op.execute(f"GRANT SELECT ON audit_events, audit_heads TO {PLATFORM}")
    for table in ("users", "audit_events", "audit_heads"):
        op.execute(f"CREATE POLICY platform ON {table} FOR SELECT TO {PLATFORM} USING (true)")


def _announce() -> None:
    """Channel `changes`, payload a handle in hex: a letter for the kind, and what the look-up is asked for."""
    op.execute("DROP TRIGGER announce_key_change ON api_keys")
    op.execute("DROP FUNCTION announce_key_change()")
    _trigger_function(
        "announce_key",
        """
        IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('changes', '6b' || encode(OLD.key_hash, 'hex')); END IF;
        IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('changes', '6b' || encode(NEW.key_hash, 'hex')); END IF;
        """,
    )
    _on(
        "api_keys",
        "announce_key",
        "INSERT OR DELETE OR UPDATE OF key_hash, user_id, scopes, models, expires_at, revoked_at",
    )
    _trigger_function(
        "announce_session",
        """
        PERFORM pg_notify('changes', '73' || replace(OLD.id::text, '-', ''));
        """,
    )
    _on("sessions", "announce_session", "DELETE OR UPDATE OF expires_at, revoked_at")
    # Deleting a user deletes its keys and sessions, which say so themselves.
    _trigger_function(
        "announce_user",
        """
        DECLARE one users; tenant text; name text;
        BEGIN
          one := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
          PERFORM pg_notify('changes', '6b' || encode(key_hash, 'hex')) FROM api_keys
            WHERE tenant_id = one.tenant_id AND user_id = one.id;
          PERFORM pg_notify('changes', '73' || replace(id::text, '-', '')) FROM sessions
            WHERE tenant_id = one.tenant_id AND user_id = one.id AND revoked_at IS NULL;
          SELECT slug INTO tenant FROM tenants WHERE id = one.tenant_id;
          IF TG_OP <> 'INSERT' AND OLD.external_id IS NOT NULL THEN
            name := tenant || E'\\n' || OLD.external_id;
            PERFORM pg_notify('changes', '78' || encode(convert_to(name, 'UTF8'), 'hex'));
          END IF;
          IF TG_OP <> 'DELETE' AND NEW.external_id IS NOT NULL THEN
            name := tenant || E'\\n' || NEW.external_id;
            PERFORM pg_notify('changes', '78' || encode(convert_to(name, 'UTF8'), 'hex'));
          END IF;
        END;
        """,
    )
    _on("users", "announce_user", "INSERT OR DELETE OR UPDATE OF role, external_id, disabled_at")
    _trigger_function(
        "announce_provider_key",
        """
        DECLARE one provider_keys;
        BEGIN
          one := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
          PERFORM pg_notify('changes', '70' || replace(one.tenant_id::text, '-', ''));
        END;
        """,
    )
    _on("provider_keys", "announce_provider_key", "INSERT OR DELETE OR UPDATE")


def _trigger_function(name: str, body: str) -> None:
    op.execute(
        f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        BEGIN
          {body}
          RETURN NULL;
        END $$
        """
    )


def _on(table: str, function: str, events: str) -> None:
    op.execute(f"CREATE TRIGGER {function} AFTER {events} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()")


def _create_audit_log() -> None:
    """The app can add to the end and read. What an event's place and hash are, the database says."""
    op.execute(
        f"""
        CREATE FUNCTION append_audit_event(event_id uuid, event text) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          tenant uuid := {CURRENT_TENANT};
          head audit_heads;
        BEGIN
          IF tenant IS NULL THEN
            RAISE insufficient_privilege USING MESSAGE = 'an event needs a tenant';
          END IF;
          INSERT INTO audit_heads VALUES (tenant, 0, '\\x') ON CONFLICT DO NOTHING;
          SELECT * INTO head FROM audit_heads WHERE tenant_id = tenant FOR UPDATE;
          head.sequence := head.sequence + 1;
          head.hash := sha256(
            head.hash || convert_to(tenant || E'\\n' || head.sequence || E'\\n' || event_id || E'\\n' || event, 'UTF8')
          );
          INSERT INTO audit_events (tenant_id, sequence, id, payload, hash)
            VALUES (tenant, head.sequence, event_id, event, head.hash);
          UPDATE audit_heads SET sequence = head.sequence, hash = head.hash WHERE tenant_id = tenant;
          RETURN head.sequence;
        END $$
        """  # noqa: S608
    )
    op.execute("REVOKE ALL ON FUNCTION append_audit_event(uuid, text) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION append_audit_event(uuid, text) TO {APP}")
    # Against accidents of whoever may: an owner who means it can drop the trigger, and `wattos audit verify` tells.
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          RAISE insufficient_privilege USING MESSAGE = 'the audit log is append-only';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION append_audit_event(uuid, text)")
    for table in ("audit_events", "audit_heads", "audit_subjects", "provider_keys", "sign_in_failures"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_change()")
    op.execute("DROP FUNCTION announce_provider_key()")
    op.execute(f"REVOKE SELECT (last_used_at) ON api_keys FROM {PLATFORM}")  # noqa: S608
    op.execute("DROP POLICY any_tenant_use ON api_keys")
    op.execute(f"REVOKE SELECT (last_used_at), UPDATE (last_used_at) ON api_keys FROM {AUTH}")  # noqa: S608
    op.execute("DROP POLICY sign_in ON tenants")
    op.execute(f"REVOKE SELECT (id, slug) ON tenants FROM {SIGN_IN}")  # noqa: S608
    op.execute("DROP TABLE refresh_tokens")
    op.execute("DROP TABLE sessions")
    op.execute("DROP FUNCTION announce_session()")
    op.execute("ALTER TABLE api_keys DROP CONSTRAINT fk_api_keys_users")
    op.drop_index("ix_api_keys_tenant_id_user_id", "api_keys")
    op.drop_column("api_keys", "last_used_at")
    op.execute("DROP TABLE users")
    op.execute("DROP FUNCTION announce_user()")
    op.execute("DROP TRIGGER announce_key ON api_keys")
    op.execute("DROP FUNCTION announce_key()")
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
    op.execute(
        f"""
        DO $$ BEGIN
          EXECUTE 'REVOKE USAGE ON SCHEMA public FROM {SIGN_IN}';
          DROP ROLE {SIGN_IN};
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
        END $$
        """
    )
