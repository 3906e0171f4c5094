"""The rules of tenants and keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.accounts import roles, store
from app.accounts.model import ApiKey, IssuedKey, Tenant
from app.accounts.scope import require_as_much
from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import Conflict, InvalidRequest, NotFound
from app.ids import new_id
from plugins.contract.credentials import generate_key
from plugins.contract.errors import PermissionDenied
from plugins.contract.permissions import Permission
from plugins.contract.principal import Principal

MAX_SLUG_CHARS = 63
"""A DNS label's length: a slug may become part of a host name."""

_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
_NO_KEY, _NO_TENANT = "no key with this id", "no tenant with this id"


class AccountsService:
    """Makes and finds tenants and keys. Each change and its audit event are one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_tenant(self, actor: Actor, *, name: str, slug: str) -> Tenant:
        """Raises: InvalidRequest for a slug that cannot be one, Conflict for a taken one."""
        if len(slug) > MAX_SLUG_CHARS or not _SLUG.fullmatch(slug):
            raise InvalidRequest(
                f"slug: a–z, 0–9 and single dashes between them, at most {MAX_SLUG_CHARS}", param="slug"
            )
        name = _name(name)
        tenant_id = new_id()
        try:
            async with self._database.tenant(tenant_id) as session:
                made = await store.insert_tenant(session, id=tenant_id, name=name, slug=slug)
                created = Change(action="tenant.created", kind="tenant", id=tenant_id, after={"slug": slug})
                await record(session, tenant_id, actor, created)
        except IntegrityError:
            raise Conflict(f"there is a tenant with the slug {slug!r} already") from None
        return made

    async def get_tenant(self, tenant_id: UUID) -> Tenant:
        """Raises: NotFound."""
        async with self._database.role(Role.PLATFORM) as session:
            found = await store.tenant_by_id(session, tenant_id)
        if found is None:
            raise NotFound(_NO_TENANT)
        return found

    async def find_tenant(self, slug: str) -> Tenant | None:
        async with self._database.role(Role.PLATFORM) as session:
            return await store.tenant_by_slug(session, slug)

    async def list_tenants(self, wanted: PageRequest) -> Rows[Tenant]:
        async with self._database.role(Role.PLATFORM) as session:
            return await store.list_tenants(session, wanted)

    async def create_key(
        self,
        principal: Principal,
        actor: Actor,
        *,
        tenant_id: UUID,
        name: str,
        user_id: UUID | None = None,
        scopes: Sequence[Permission] = (),
        models: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Raises: NotFound for an unknown tenant or user, InvalidRequest for an expiry that is past, an empty name or a
        scope that no key has, PermissionDenied for more than the caller's own rights.
        """
        name = _name(name)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidRequest("expires_at lies in the past", param="expires_at")
        if not_for_keys := set(scopes) - roles.SCOPES:
            raise InvalidRequest(f"no key can have this: {', '.join(sorted(not_for_keys))}", param="scopes")
        require_as_much(principal, roles.of_key(tuple(scopes), None))
        if principal.models is not None and (models is None or not principal.models.issuperset(models)):
            raise PermissionDenied("you cannot give models that you may not use")
        fresh = generate_key()
        try:
            async with self._database.tenant(tenant_id) as session:
                made = await store.insert_key(
                    session,
                    id=new_id(),
                    tenant_id=tenant_id,
                    name=name,
                    prefix=fresh.prefix,
                    key_hash=fresh.sha256,
                    user_id=user_id,
                    scopes=tuple(scopes),
                    models=None if models is None else tuple(models),
                    expires_at=expires_at,
                )
                await record(session, tenant_id, actor, _created(made))
        except IntegrityError as exc:
            raise NotFound("no user with this id" if "_users" in str(exc.orig) else _NO_TENANT) from None
        return IssuedKey(made, fresh.key)

    async def list_keys(self, tenant_id: UUID, wanted: PageRequest) -> Rows[ApiKey]:
        """Raises: NotFound for an unknown tenant."""
        async with self._database.tenant(tenant_id) as session:
            if await store.tenant_by_id(session, tenant_id) is None:
                raise NotFound(_NO_TENANT)
            return await store.list_keys(session, tenant_id, wanted)

    async def get_key(self, tenant_id: UUID | None, key_id: UUID) -> ApiKey:
        """`tenant_id` None: wherever it is. Raises: NotFound."""
        tenant_id = await self._tenant_of(tenant_id, key_id)
        async with self._database.tenant(tenant_id) as session:
            found = await store.key_by_id(session, tenant_id, key_id)
        if found is None:
            raise NotFound(_NO_KEY)
        return found

    async def revoke_key(self, actor: Actor, tenant_id: UUID | None, key_id: UUID) -> None:
        """Dead within a second on every replica. `tenant_id` None: wherever it is. Raises: NotFound."""
        tenant_id = await self._tenant_of(tenant_id, key_id)
        async with self._database.tenant(tenant_id) as session:
            found = await store.key_by_id(session, tenant_id, key_id, lock=True)
            if found is None:
                raise NotFound(_NO_KEY)
            if found.revoked_at is not None:
                return
            await store.revoke_key(session, tenant_id, key_id)
            await record(session, tenant_id, actor, Change(action="key.revoked", kind="key", id=key_id))

    async def _tenant_of(self, tenant_id: UUID | None, key_id: UUID) -> UUID:
        if tenant_id is not None:
            return tenant_id
        async with self._database.role(Role.PLATFORM) as session:
            found = await store.tenant_of_key(session, key_id)
        if found is None:
            raise NotFound(_NO_KEY)
        return found


def _created(key: ApiKey) -> Change:
    after = {
        "label": key.name,
        "prefix": key.prefix,
        "user_id": None if key.user_id is None else key.user_id.hex,
        "scopes": list(key.scopes),
        "models": None if key.models is None else list(key.models),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }
    return Change(action="key.created", kind="key", id=key.id, after=after)


def _name(given: str) -> str:
    """Without space around it. Raises: InvalidRequest for nothing but space."""
    name = given.strip()
    if not name:
        raise InvalidRequest("name is empty", param="name")
    return name
