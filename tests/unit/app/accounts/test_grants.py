"""Random histories of users, roles, keys and sessions on a real database, beside a model of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.accounts import roles
from app.accounts.identities import DatabaseIdentityLookup
from app.accounts.model import IssuedKey
from app.accounts.passwords import Passwords
from app.accounts.service import AccountsService
from app.accounts.sign_in import store as sign_in_store
from app.accounts.sign_in.model import Session
from app.accounts.users.schemas import UserCreate, UserUpdate
from app.accounts.users.service import UsersService
from app.audit.model import COMMAND_LINE
from app.audit.verify import verify
from app.commands import PLATFORM
from app.database.engine import Database
from app.ids import new_id
from plugins.contract.credentials import hash_key, key_handle, session_handle
from plugins.contract.permissions import Permission
from plugins.contract.principal import Role

pytestmark = pytest.mark.requirement("SEC-2")

SCOPES: Sequence[tuple[Permission, ...]] = (
    (),
    ("models:use",),
    ("documents:read", "documents:write"),
    ("users:manage",),
    ("keys:manage", "audit:read"),
)
ROLES: Sequence[Role] = ("admin", "editor", "viewer")

FAR = datetime.now(UTC) + timedelta(days=1)

Does = Literal["user", "key", "session", "role", "disable", "enable", "delete", "revoke", "end", "password"]


class Step(msgspec.Struct, frozen=True):
    """`which`: of the things there are, by turns; `what`: role or scopes."""

    does: Does
    which: int
    what: int


STEPS = st.lists(
    st.builds(Step, st.sampled_from(get_args(Does)), st.integers(0, 9), st.integers(0, 9)),
    min_size=5,
    max_size=25,
)


class Model:
    """What ought to hold."""

    def __init__(self) -> None:
        self.users: dict[UUID, dict[str, Any]] = {}
        self.keys: dict[UUID, dict[str, Any]] = {}
        self.sessions: dict[UUID, dict[str, Any]] = {}

    def of_key(self, key: dict[str, Any]) -> frozenset[Permission] | None:
        """Its permissions, None when it is dead."""
        if key["user"] is None:
            return None if key["revoked"] else roles.of_key(key["scopes"], None)
        user = self.users.get(key["user"])
        if user is None or user["disabled"] or key["revoked"]:
            return None
        return roles.of_key(key["scopes"], user["role"])

    def of_session(self, session: dict[str, Any]) -> frozenset[Permission] | None:
        user = self.users.get(session["user"])
        if user is None or user["disabled"] or session["ended"]:
            return None
        return roles.OF_ROLE[user["role"]]


class World:
    """The model and the real thing, side by side."""

    def __init__(self, database: Database, tenant_id: UUID) -> None:
        self.model = Model()
        self._database = database
        self._tenant_id = tenant_id
        self._accounts = AccountsService(database)
        self._users = UsersService(database, Passwords())
        self._lookup = DatabaseIdentityLookup(database)
        self._issued: dict[UUID, IssuedKey] = {}

    async def do(self, step: Step) -> None:
        model, role = self.model, ROLES[step.what % 3]
        users, keys, sessions = [*model.users], [*model.keys], [*model.sessions]
        user = users[step.which % len(users)] if users else None
        if step.does == "user":
            asked = UserCreate(email=f"{uuid4().hex}@b.example", role=role)
            made = await self._users.create(PLATFORM, COMMAND_LINE, self._tenant_id, asked)
            model.users[made.id] = {"role": role, "disabled": False}
        elif step.does == "key":
            owner, scopes = (user if step.which % 2 else None), SCOPES[step.what % len(SCOPES)]
            key = await self._accounts.create_key(
                PLATFORM, COMMAND_LINE, tenant_id=self._tenant_id, name="x", user_id=owner, scopes=scopes
            )
            model.keys[key.record.id] = {"user": owner, "scopes": scopes, "revoked": False}
            self._issued[key.record.id] = key
        elif step.does == "revoke" and keys:
            key_id = keys[step.which % len(keys)]
            owner = model.keys[key_id]["user"]
            if owner is None or owner in model.users:  # with its user it is gone
                await self._accounts.revoke_key(COMMAND_LINE, self._tenant_id, key_id)
                model.keys[key_id]["revoked"] = True
        elif step.does == "end" and sessions:
            session_id = sessions[step.which % len(sessions)]
            async with self._database.tenant(self._tenant_id) as session:
                await sign_in_store.revoke_session(session, self._tenant_id, session_id)
            model.sessions[session_id]["ended"] = True
        elif user is not None:
            await self._do_to(user, step, role)

    async def _do_to(self, user: UUID, step: Step, role: Role) -> None:
        model = self.model
        if step.does == "session":
            made = Session(id=new_id(), tenant_id=self._tenant_id, user_id=user, expires_at=FAR)
            async with self._database.tenant(self._tenant_id) as session:
                await sign_in_store.insert_session(session, made)
            model.sessions[made.id] = {"user": user, "ended": False}
        elif step.does == "delete":
            await self._users.delete(PLATFORM, COMMAND_LINE, self._tenant_id, user, erase=bool(step.what % 2))
            del model.users[user]
        elif step.does in ("role", "disable", "enable", "password"):
            asked = {
                "role": UserUpdate(role=role),
                "disable": UserUpdate(disabled=True),
                "enable": UserUpdate(disabled=False),
                "password": UserUpdate(password="vier Birnen auf dem Tisch"),
            }[step.does]
            await self._users.update(PLATFORM, COMMAND_LINE, self._tenant_id, user, asked)
            known = model.users[user]
            if step.does == "role":
                known["role"] = role
            elif step.does in ("disable", "enable"):
                known["disabled"] = step.does == "disable"
            if step.does == "password" or known["disabled"]:
                for one in model.sessions.values():
                    one["ended"] = one["ended"] or one["user"] == user

    async def check(self) -> None:
        for key_id, key in self.model.keys.items():
            found = await self._lookup.find(key_handle(hash_key(self._issued[key_id].key)))
            assert self._permissions(found) == self.model.of_key(key)
        for session_id, session in self.model.sessions.items():
            found = await self._lookup.find(session_handle(session_id))
            assert self._permissions(found) == self.model.of_session(session)

    def _permissions(self, found: Any) -> frozenset[Permission] | None:
        if found is None or found.revoked:
            return None
        assert found.principal.tenant_id == self._tenant_id
        assert not found.principal.is_platform_admin
        return frozenset(found.principal.permissions)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_credentials_may_what_their_history_says(database: Database, steps: list[Step]) -> None:
    """After each history, every key and session may just what the model says; and the audit log is whole."""
    tenant = await AccountsService(database).create_tenant(COMMAND_LINE, name="x", slug=f"t{uuid4().hex}")
    world = World(database, tenant.id)
    for step in steps:
        await world.do(step)
    await world.check()
    (chain,) = [one async for one in verify(database) if one.tenant_id == tenant.id]
    assert chain.broken is None
