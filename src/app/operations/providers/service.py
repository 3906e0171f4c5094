"""How targets fare, and an operator's word to their breakers. Everything is of this process; the word is for all."""

from __future__ import annotations

from uuid import UUID

from app.audit.model import PLATFORM_CHAIN, Actor, Change
from app.audit.record import AuditLog
from app.database.paging import Rows
from app.errors import NotConfigured, NotFound
from app.llm.model import Target
from app.llm.outcomes import LastOutcomes
from app.llm.routing import Router
from app.operations.providers.model import Provider, provider_id
from plugins.contract.breakers import BreakerStatus, Forced
from plugins.contract.ports import Breakers

UNSEEN = BreakerStatus(state="closed")
"""A breaker is made with the first call."""


class ProvidersService:
    """Reads what chains keep; asks no vendor."""

    def __init__(
        self, *, router: Router, outcomes: LastOutcomes, breakers: Breakers | None, audit_log: AuditLog
    ) -> None:
        """`breakers` None: there are none."""
        self._router = router
        self._outcomes = outcomes
        self._breakers = breakers
        self._audit_log = audit_log

    def page(self, *, limit: int, after: UUID | None) -> Rows[Provider]:
        """In the order of the configuration. Raises: NotFound for an `after` that is not there (any more)."""
        targets = self._targets()
        names = [*targets]
        start = 0 if after is None else names.index(self._found(after).known_as) + 1
        shown = [self._provider(targets[name]) for name in names[start : start + limit + 1]]
        return Rows[Provider].cut(shown, limit)

    async def reset(self, actor: Actor, provider: UUID) -> Provider:
        """Closed, with no failure behind it, and forced to nothing. Raises: NotFound, NotConfigured,
        DatabaseUnavailable: then nothing has changed, for nothing is without its trace in the audit log."""
        target, breakers = self._found(provider), self._on()
        before = self._status(breakers, target)
        await self._audit_log.note(
            PLATFORM_CHAIN,
            actor,
            Change(
                action="breaker.reset",
                kind="provider",
                id=provider,
                before={"state": before.state, "forced": before.forced},
                after={"target": target.known_as, "state": "closed", "forced": None},
            ),
        )
        breakers.reset(target.known_as)
        return self._provider(target)

    async def force(self, actor: Actor, provider: UUID, forced: Forced | None) -> Provider:
        """Always or never called; None: by its outcomes again. Raises: as `reset`."""
        target, breakers = self._found(provider), self._on()
        before = self._status(breakers, target)
        await self._audit_log.note(
            PLATFORM_CHAIN,
            actor,
            Change(
                action="breaker.forced",
                kind="provider",
                id=provider,
                before={"forced": before.forced},
                after={"target": target.known_as, "forced": forced},
            ),
        )
        breakers.force(target.known_as, forced)
        return self._provider(target)

    def _targets(self) -> dict[str, Target]:
        """By what breakers and traffic know them by; a wildcard's are one."""
        found: dict[str, Target] = {}
        for target in self._router.catalog.known():
            found.setdefault(target.known_as, target)
        return found

    def _found(self, provider: UUID) -> Target:
        for name, target in self._targets().items():
            if provider_id(name) == provider:
                return target
        raise NotFound("no provider with this id")

    def _on(self) -> Breakers:
        if self._breakers is None:
            raise NotConfigured("the resilience plugin is off (PLUGINS_RESILIENCE_ENABLED): there are no breakers")
        return self._breakers

    def _provider(self, target: Target) -> Provider:
        name = target.known_as
        return Provider(
            id=provider_id(name),
            target=target,
            fare=self._router.traffic.fare_of(name),
            breaker=None if self._breakers is None else self._status(self._breakers, target),
            last_error=self._outcomes.last_error_of(name),
        )

    @staticmethod
    def _status(breakers: Breakers, target: Target) -> BreakerStatus:
        return breakers.statuses().get(target.known_as, UNSEEN)
