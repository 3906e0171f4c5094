"""The rules of users: who may make, change and delete whom."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.exc import IntegrityError

from app.accounts.passwords import Passwords, require_strong
from app.accounts.scope import require_rank
from app.accounts.sign_in import store as sessions
from app.accounts.users import store
from app.accounts.users.model import User
from app.accounts.users.schemas import UserCreate, UserUpdate
from app.audit import store as audit
from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import Conflict, NotFound
from app.ids import new_id
from plugins.contract.principal import Principal

_NOT_THERE = "no user with this id"
_SHOWN = ("email", "name", "role", "external_id", "disabled_at")
"""What the audit log has of a user."""


def folded_email(given: str) -> str:
    """One spelling of an address: two that look and deliver the same are the same user."""
    return unicodedata.normalize("NFKC", given).strip().casefold()


class UsersService:
    """Each change, its announcement and its audit event are one transaction."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def create(self, principal: Principal, actor: Actor, tenant_id: UUID, asked: UserCreate) -> User:
        """Raises: PermissionDenied for a role above one's own, Conflict for a taken address, NotFound."""
        require_rank(principal, asked.role)
        email = folded_email(asked.email)
        if asked.password is not None:
            require_strong(asked.password, email, asked.name)
        values: dict[str, Any] = {
            "id": new_id(),
            "tenant_id": tenant_id,
            "email": email,
            "name": asked.name.strip(),
            "role": asked.role,
            "external_id": asked.external_id,
            "password_hash": None if asked.password is None else await self._passwords.hash(asked.password),
        }
        try:
            async with self._database.tenant(tenant_id) as session:
                user = await store.insert_user(session, values)
                after = _shown(user) | ({} if asked.password is None else {"password": "set"})
                await record(
                    session, tenant_id, actor, Change(action="user.created", kind="user", id=user.id, after=after)
                )
        except IntegrityError as exc:
            raise _taken(exc) from None
        return user

    async def get(self, tenant_id: UUID | None, user_id: UUID) -> User:
        """`tenant_id` None: wherever it is. Raises: NotFound."""
        tenant_id = await self._tenant_of(tenant_id, user_id)
        async with self._database.tenant(tenant_id) as session:
            user = await store.user_by_id(session, tenant_id, user_id)
        if user is None:
            raise NotFound(_NOT_THERE)
        return user

    async def list(self, tenant_id: UUID, wanted: PageRequest) -> Rows[User]:
        async with self._database.tenant(tenant_id) as session:
            return await store.list_users(session, tenant_id, wanted)

    async def update(
        self, principal: Principal, actor: Actor, tenant_id: UUID | None, user_id: UUID, asked: UserUpdate
    ) -> User:
        """Raises: NotFound, PermissionDenied for a user or a role above one's own, Conflict, InvalidRequest."""
        tenant_id = await self._tenant_of(tenant_id, user_id)
        password_hash = None
        if asked.password is not UNSET:
            require_strong(asked.password, "" if asked.email is UNSET else asked.email)
            password_hash = await self._passwords.hash(asked.password)
        try:
            async with self._database.tenant(tenant_id) as session:
                before = await store.user_by_id(session, tenant_id, user_id, lock=True)
                if before is None:
                    raise NotFound(_NOT_THERE)
                require_rank(principal, before.role)
                if asked.role is not UNSET:
                    require_rank(principal, asked.role)
                values = _changes(asked, before)
                if password_hash is not None:
                    values["password_hash"] = password_hash
                if not values:
                    return before
                after = await store.update_user(session, tenant_id, user_id, values)
                if password_hash is not None or after.disabled_at is not None:
                    await sessions.revoke_sessions(session, tenant_id, user_id)
                change = _difference(before, after, is_new_password=password_hash is not None)
                await record(session, tenant_id, actor, change)
        except IntegrityError as exc:
            raise _taken(exc) from None
        return after

    async def delete(
        self, principal: Principal, actor: Actor, tenant_id: UUID | None, user_id: UUID, *, erase: bool
    ) -> None:
        """With keys and sessions; `erase`: the audit log forgets who it was. Raises: NotFound, PermissionDenied."""
        tenant_id = await self._tenant_of(tenant_id, user_id)
        async with self._database.tenant(tenant_id) as session:
            user = await store.user_by_id(session, tenant_id, user_id, lock=True)
            if user is None:
                raise NotFound(_NOT_THERE)
            require_rank(principal, user.role)
            await store.delete_user(session, tenant_id, user_id)
            deleted = Change(action="user.deleted", kind="user", id=user_id, before=_shown(user))
            await record(session, tenant_id, actor, deleted)
            if erase:
                await audit.erase(session, tenant_id, user_id)
                await record(session, tenant_id, actor, Change(action="user.erased", kind="user"))

    async def _tenant_of(self, tenant_id: UUID | None, user_id: UUID) -> UUID:
        if tenant_id is not None:
            return tenant_id
        async with self._database.role(Role.PLATFORM) as session:
            found = await store.tenant_of_user(session, user_id)
        if found is None:
            raise NotFound(_NOT_THERE)
        return found


def _changes(asked: UserUpdate, before: User) -> dict[str, Any]:
    """The columns that become different."""
    wanted: dict[str, Any] = {}
    if asked.email is not UNSET:
        wanted["email"] = folded_email(asked.email)
    if asked.name is not UNSET:
        wanted["name"] = asked.name.strip()
    if asked.role is not UNSET:
        wanted["role"] = asked.role
    if asked.external_id is not UNSET:
        wanted["external_id"] = asked.external_id
    if asked.disabled is not UNSET and asked.disabled != (before.disabled_at is not None):
        wanted["disabled_at"] = datetime.now(UTC) if asked.disabled else None
    return {name: value for name, value in wanted.items() if value != getattr(before, name)}


def _difference(before: User, after: User, *, is_new_password: bool) -> Change:
    old, new = _shown(before), _shown(after)
    changed = {name for name in new if new[name] != old[name]}
    return Change(
        action="user.updated",
        kind="user",
        id=after.id,
        before={name: old[name] for name in changed},
        after={name: new[name] for name in changed} | ({"password": "set"} if is_new_password else {}),
    )


def _shown(user: User) -> dict[str, Any]:
    known = msgspec.structs.asdict(user)
    return {name: known[name] for name in _SHOWN}


def _taken(exc: IntegrityError) -> Conflict | NotFound:
    text = str(exc.orig)
    if "fk_users_tenants" in text or "users_tenant_id_fkey" in text:
        return NotFound("no tenant with this id")
    what = "external_id" if "external_id" in text else "email"
    return Conflict(f"there is a user with this {what} already")
