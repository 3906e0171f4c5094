"""The rules of tenants and keys. For the platform's administrator alone, in this release."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.accounts import store
from app.accounts.model import ApiKey, IssuedKey, Tenant
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import Conflict, InvalidRequest, NotFound
from app.ids import new_id
from plugins.contract.credentials import generate_key
from plugins.contract.errors import PermissionDenied
from plugins.contract.principal import Principal

MAX_SLUG_CHARS = 63
"""A DNS label's length: a slug may become part of a host name."""

_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")


def require_platform_admin(principal: Principal) -> None:
    """Raises: PermissionDenied."""
    if not principal.is_platform_admin:
        raise PermissionDenied("only the platform administrator (ADMIN_KEY) may do this")


class AccountsService:
    """Makes and finds tenants and keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_tenant(self, *, name: str, slug: str) -> Tenant:
        """Raises: InvalidRequest for a slug that cannot be one, Conflict for a taken one."""
        if len(slug) > MAX_SLUG_CHARS or not _SLUG.fullmatch(slug):
            raise InvalidRequest(
                f"slug: a–z, 0–9 and single dashes between them, at most {MAX_SLUG_CHARS}", param="slug"
            )
        name = _name(name)
        tenant_id = new_id()
        try:
            async with self._database.tenant(tenant_id) as session:
                return await store.insert_tenant(session, id=tenant_id, name=name, slug=slug)
        except IntegrityError:
            raise Conflict(f"there is a tenant with the slug {slug!r} already") from None

    async def get_tenant(self, tenant_id: UUID) -> Tenant:
        """Raises: NotFound."""
        async with self._database.role(Role.PLATFORM) as session:
            found = await store.tenant_by_id(session, tenant_id)
        if found is None:
            raise NotFound("no tenant with this id")
        return found

    async def find_tenant(self, slug: str) -> Tenant | None:
        async with self._database.role(Role.PLATFORM) as session:
            return await store.tenant_by_slug(session, slug)

    async def list_tenants(self, wanted: PageRequest) -> Rows[Tenant]:
        async with self._database.role(Role.PLATFORM) as session:
            return await store.list_tenants(session, wanted)

    async def create_key(
        self,
        *,
        tenant_id: UUID,
        name: str,
        user_id: UUID | None = None,
        scopes: Sequence[str] = (),
        models: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Raises: NotFound for an unknown tenant, InvalidRequest for an expiry that is past or an empty name."""
        name = _name(name)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidRequest("expires_at lies in the past", param="expires_at")
        await self.get_tenant(tenant_id)
        fresh = generate_key()
        async with self._database.tenant(tenant_id) as session:
            record = await store.insert_key(
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
        return IssuedKey(record, fresh.key)

    async def list_keys(self, tenant_id: UUID, wanted: PageRequest) -> Rows[ApiKey]:
        """Raises: NotFound."""
        await self.get_tenant(tenant_id)
        async with self._database.tenant(tenant_id) as session:
            return await store.list_keys(session, tenant_id, wanted)

    async def revoke_key(self, key_id: UUID) -> None:
        """Dead within a second on every replica. Raises: NotFound."""
        async with self._database.role(Role.PLATFORM) as session:
            tenant_id = await store.tenant_of_key(session, key_id)
        if tenant_id is None:
            raise NotFound("no key with this id")
        async with self._database.tenant(tenant_id) as session:
            await store.revoke_key(session, tenant_id, key_id)


def _name(given: str) -> str:
    """Without space around it. Raises: InvalidRequest for nothing but space."""
    name = given.strip()
    if not name:
        raise InvalidRequest("name is empty", param="name")
    return name
