"""The rules of budgets: who may set which, and what has become of their money."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.model import Actor, Change
from app.audit.record import record
from app.billing.budgets import store
from app.billing.budgets.model import Budget, Period, Scope, Use
from app.billing.budgets.signing import secret_of
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.outbound import checked_url
from plugins.contract.errors import PermissionDenied
from plugins.contract.principal import Principal

logger = logging.getLogger("billing")

_NO_BUDGET = "no budget with this id"


class BudgetsService:
    """Each change and its audit event are one transaction; it is in force within a second."""

    def __init__(
        self, database: Database, *, grace_s: float, webhook_key: bytes, allowed_hosts: frozenset[str]
    ) -> None:
        """`webhook_key`: what secrets of webhooks are derived from. `allowed_hosts`: inside the network."""
        self._database = database
        self._grace_s = grace_s
        self._webhook_key = webhook_key
        self._allowed_hosts = allowed_hosts

    async def create(
        self,
        principal: Principal,
        actor: Actor,
        *,
        tenant_id: UUID,
        scope: Scope,
        user_id: UUID | None = None,
        key_id: UUID | None = None,
        model: str | None = None,
        period: Period,
        amount_nusd: int,
        allow_unpriced: bool,
        webhook_url: str | None,
    ) -> tuple[Budget, Use]:
        """Raises: PermissionDenied, NotFound for an unknown user, key or tenant, Conflict, AddressRefused."""
        _require_platform(principal, scope)
        made_at = datetime.now(UTC)
        values = {
            "tenant_id": tenant_id,
            "id": new_id(),
            "scope": scope,
            "user_id": user_id,
            "key_id": key_id,
            "model": model,
            "period": period,
            "amount_nusd": amount_nusd,
            "allow_unpriced": allow_unpriced,
            "webhook_url": self._checked(webhook_url),
        }
        try:
            async with self._database.tenant(tenant_id) as session:
                made = await store.add(session, values)
                await store.begin_spending(session, made, made.period_at(made_at))
                await record(session, tenant_id, actor, _change("budget.created", made, after=_told(made)))
                use = await self._use(session, made)
        except IntegrityError as exc:
            if "uq_budgets_of_one" in str(exc.orig):
                raise Conflict(f"there is a budget of this {scope} for this period already") from None
            raise NotFound(f"no {scope} with this id") from None
        return made, use

    async def page(self, tenant_id: UUID, wanted: PageRequest) -> tuple[Rows[Budget], Mapping[UUID, Use]]:
        async with self._database.tenant(tenant_id) as session:
            rows = await store.page(session, tenant_id, wanted)
            return rows, await self._uses(session, tenant_id, rows.items)

    async def get(self, tenant_id: UUID | None, budget_id: UUID) -> tuple[Budget, Use]:
        """`tenant_id` None: wherever it is. Raises: NotFound."""
        tenant_id = await self._tenant_of(tenant_id, budget_id)
        async with self._database.tenant(tenant_id) as session:
            found = await store.find(session, tenant_id, budget_id)
            if found is None:
                raise NotFound(_NO_BUDGET)
            return found, await self._use(session, found)

    async def update(
        self, principal: Principal, actor: Actor, tenant_id: UUID | None, budget_id: UUID, changes: Mapping[str, Any]
    ) -> tuple[Budget, Use]:
        """Raises: NotFound, PermissionDenied, AddressRefused."""
        tenant_id = await self._tenant_of(tenant_id, budget_id)
        if "webhook_url" in changes:
            changes = {**changes, "webhook_url": self._checked(changes["webhook_url"])}
        async with self._database.tenant(tenant_id) as session:
            before = await store.find(session, tenant_id, budget_id, lock=True)
            if before is None:
                raise NotFound(_NO_BUDGET)
            _require_platform(principal, before.scope)
            after = await store.change(session, before, changes) if changes else before
            if after != before:
                told = _change("budget.updated", after, before=_told(before), after=_told(after))
                await record(session, tenant_id, actor, told)
            return after, await self._use(session, after)

    async def delete(self, principal: Principal, actor: Actor, tenant_id: UUID | None, budget_id: UUID) -> None:
        """Raises: NotFound, PermissionDenied."""
        tenant_id = await self._tenant_of(tenant_id, budget_id)
        async with self._database.tenant(tenant_id) as session:
            gone = await store.remove(session, tenant_id, budget_id)
            if gone is None:
                raise NotFound(_NO_BUDGET)
            _require_platform(principal, gone.scope)
            await record(session, tenant_id, actor, _change("budget.deleted", gone, before=_told(gone)))

    async def end_lapsed_leases(self) -> None:
        """A chore: what processes were lent that nobody has heard of for longer than the grace."""
        async with self._database.role(Role.LEDGER) as session:
            n_ended = await store.end_lapsed(session, self._grace_s)
        if n_ended:
            logger.warning("%d leases of budgets ended: their processes' journals were not seen again", n_ended)

    async def tenant_of_owner(self, *, user_id: UUID | None = None, key_id: UUID | None = None) -> UUID:
        """For the platform's administrator, who may name a user or a key alone. Raises: NotFound."""
        async with self._database.role(Role.PLATFORM) as session:
            found = await store.tenant_of_owner(session, user_id=user_id, key_id=key_id)
        if found is None:
            raise NotFound(f"no {'user' if user_id else 'key'} with this id")
        return found

    def webhook_secret(self, budget_id: UUID) -> str:
        return secret_of(self._webhook_key, budget_id)

    async def _tenant_of(self, tenant_id: UUID | None, budget_id: UUID) -> UUID:
        if tenant_id is not None:
            return tenant_id
        async with self._database.role(Role.LEDGER) as session:
            found = await store.tenant_of(session, budget_id)
        if found is None:
            raise NotFound(_NO_BUDGET)
        return found

    async def _use(self, session: AsyncSession, budget: Budget) -> Use:
        return (await self._uses(session, budget.tenant_id, [budget]))[budget.id]

    async def _uses(self, session: AsyncSession, tenant_id: UUID, budgets: Sequence[Budget]) -> Mapping[UUID, Use]:
        now = datetime.now(UTC)
        periods = {budget.id: budget.period_at(now) for budget in budgets}
        return await store.uses(session, tenant_id, periods, self._grace_s)

    def _checked(self, url: str | None) -> str | None:
        return None if url is None else checked_url(url, param="webhook_url", allowed=self._allowed_hosts)


def _require_platform(principal: Principal, scope: Scope) -> None:
    """A tenant sets no budget of its own as a whole: it could raise it."""
    if scope == "tenant" and not principal.is_platform_admin:
        raise PermissionDenied("the budget of a whole tenant is set by the platform's administrator")


def _change(action: Any, budget: Budget, **fields: Any) -> Change:
    return Change(action=action, kind="budget", id=budget.id, **fields)


def _told(budget: Budget) -> dict[str, Any]:
    return {
        "scope": budget.scope,
        "user_id": None if budget.user_id is None else budget.user_id.hex,
        "key": None if budget.key_id is None else budget.key_id.hex,
        "model": budget.model,
        "period": budget.period,
        "amount_nusd": budget.amount_nusd,
        "allow_unpriced": budget.allow_unpriced,
        "webhook_url": budget.webhook_url,
    }
