"""The rules of limits: tenants set those of their users and keys, the platform's administrator those of tenants."""

from __future__ import annotations

import builtins
from typing import assert_never
from uuid import UUID

import msgspec
from sqlalchemy.exc import IntegrityError

from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import NotFound
from app.ids import NOUNS
from app.limits import store
from app.limits.model import PREFIXES, Allowance, SetLimit
from plugins.contract.errors import PermissionDenied
from plugins.contract.limits import Limit, LimitScope
from plugins.contract.principal import Principal


class LimitsService:
    """Also the `LimitLookup` port of the security plugin."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        principal: Principal,
        actor: Actor,
        *,
        tenant_id: UUID | None,
        scope: LimitScope,
        scope_id: UUID,
        allowance: Allowance,
    ) -> SetLimit:
        """`tenant_id` None: wherever it is. In force within a second. Raises: PermissionDenied for a tenant's own;
        NotFound.
        """
        if scope == "tenant" and not principal.is_platform_admin:
            raise PermissionDenied("a tenant's own limits are set by the platform's administrator")
        tenant_id = tenant_id or await self._tenant_of(scope, scope_id)
        not_there = NotFound(f"no {NOUNS[PREFIXES[scope]]} with this id")
        if scope == "tenant" and scope_id != tenant_id:
            raise not_there
        try:
            async with self._database.tenant(tenant_id) as session:
                before = await store.find(session, tenant_id, scope_id)
                made = await store.put(session, tenant_id, scope, scope_id, allowance)
                change = Change(
                    action="limit.set",
                    kind=scope,
                    id=scope_id,
                    before={} if before is None else msgspec.structs.asdict(before.allowance),
                    after=msgspec.structs.asdict(allowance),
                )
                await record(session, tenant_id, actor, change)
        except IntegrityError:
            raise not_there from None
        return made

    async def list(self, tenant_id: UUID, wanted: PageRequest) -> Rows[SetLimit]:
        async with self._database.tenant(tenant_id) as session:
            return await store.page(session, tenant_id, wanted)

    async def of(self, tenant_id: UUID) -> builtins.list[Limit]:
        """Those in force. Raises: RetryableError."""
        async with self._database.tenant(tenant_id) as session:
            return await store.in_force(session, tenant_id)

    async def _tenant_of(self, scope: LimitScope, scope_id: UUID) -> UUID:
        match scope:
            case "tenant":
                return scope_id
            case "user" | "key":
                async with self._database.role(Role.PLATFORM) as session:
                    found = await store.tenant_of(session, "users" if scope == "user" else "api_keys", scope_id)
                if found is None:
                    raise NotFound(f"no {NOUNS[PREFIXES[scope]]} with this id")
                return found
        assert_never(scope)
