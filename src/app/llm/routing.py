"""Whom to ask for one request: the alias's deployments in an order of the operator's choice, then its fallbacks'.

The plan is always all of them, so that the chain can move on. Where the order does not depend on the moment it is made
once, with the catalog.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import assert_never

import msgspec

from app.errors import InvalidRequest, ModelNotFound
from app.llm.catalog import Catalog, Route
from app.llm.model import Mode, Plan, Target
from app.llm.traffic import Traffic
from plugins.contract.principal import Principal

SERVES: Mapping[Mode, frozenset[Mode]] = {
    "chat": frozenset({"chat"}),
    "completion": frozenset({"completion", "chat"}),
    "embedding": frozenset({"embedding"}),
    "moderation": frozenset({"moderation"}),
}
"""Kinds of models that can answer a kind of request."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The request's own: aliases to fall back to instead of the configured ones, or no fallback at all."""

    fallbacks: tuple[str, ...] | None = None
    disable_fallbacks: bool = False


NO_WISHES = Wishes()


class Router:
    """Plans requests by the current catalog."""

    def __init__(
        self, catalog: Catalog, traffic: Traffic | None = None, uniform: Callable[[], float] = random.random
    ) -> None:
        """`uniform`: numbers in [0, 1)."""
        self.traffic = traffic or Traffic()
        self._uniform = uniform
        self.replace(catalog)

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    def replace(self, catalog: Catalog) -> None:
        """From the next request on; those under way keep their plans."""
        self._catalog = catalog
        self._fixed: dict[str, Plan] = {}
        self.traffic.forget(frozenset(target.known_as for target in catalog.known()))

    def plan(self, principal: Principal, alias: str, mode: Mode, wishes: Wishes = NO_WISHES) -> Plan:
        """Raises: ModelNotFound, InvalidRequest for a model of another kind or a fallback that there is not."""
        if not principal.may_use(alias):
            raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those this key may use")
        route = self._catalog.route(alias)
        if route.mode not in SERVES[mode]:
            article = "an" if mode == "embedding" else "a"
            raise InvalidRequest(
                f"{alias[:200]!r} is not {article} {mode} model", param="model", code="wrong_model_kind"
            )
        if wishes is not NO_WISHES and wishes != NO_WISHES:
            return self._wished(principal, route, mode, wishes)
        if (fixed := self._fixed.get(alias)) is not None:
            return fixed
        plan = Plan(
            targets=self._ordered(route.groups),
            on_context=self._ordered(route.longer),
            on_policy=self._ordered(route.lenient),
            cache=route.cache,
        )
        if route.is_fixed:
            self._fixed[alias] = plan
        return plan

    def _wished(self, principal: Principal, route: Route, mode: Mode, wishes: Wishes) -> Plan:
        groups = [route.groups[0]]
        for alias in () if wishes.disable_fallbacks else wishes.fallbacks or ():
            other = self._catalog.find(alias) if principal.may_use(alias) else None
            if other is None:
                raise ModelNotFound(f"fallbacks: no model {alias[:200]!r}: GET /v1/models lists those this key may use")
            if other.mode not in SERVES[mode]:
                raise InvalidRequest(f"fallbacks: {alias[:200]!r} is no {mode} model", param="fallbacks")
            groups.append(other.groups[0])
        if wishes.fallbacks is None and not wishes.disable_fallbacks:
            groups = [*route.groups]
        longer, lenient = ((), ()) if wishes.disable_fallbacks else (route.longer, route.lenient)
        return Plan(
            targets=self._ordered(groups),
            on_context=self._ordered(longer),
            on_policy=self._ordered(lenient),
            cache=route.cache,
        )

    def _ordered(self, groups: Iterable[Sequence[Target]]) -> tuple[Target, ...]:
        """All targets of the groups, none twice."""
        found: dict[str, Target] = {}
        for group in groups:
            for target in self._by_strategy(group) if len(group) > 1 else group:
                found.setdefault(target.id, target)
        return tuple(found.values())

    def _by_strategy(self, group: Sequence[Target]) -> list[Target]:
        """Lower `order` first; within one by the strategy, and what that leaves open by chance."""
        strategy, traffic, uniform = self._catalog.strategy, self.traffic, self._uniform

        def shuffled(target: Target) -> float:
            # Weighted sampling without replacement: https://doi.org/10.1016/j.ipl.2005.11.003 (Efraimidis, Spirakis)
            return -(uniform() ** (1 / target.weight)) if target.weight > 0 else 1.0

        def key(target: Target) -> tuple[float, float]:
            match strategy:
                case "in-order":
                    return 0.0, 0.0
                case "simple-shuffle":
                    return shuffled(target), 0.0
                case "least-busy":
                    return traffic.n_running(target.known_as), uniform()
                case "latency-based-routing":
                    return traffic.p95_ms(target.known_as) or 0.0, uniform()  # one that is not known yet is tried
                case "cost-based-routing":
                    price = target.price
                    dear = price.input_nusd_per_mtok + price.output_nusd_per_mtok if price else float("inf")
                    return dear, uniform()
            assert_never(strategy)

        return sorted(group, key=lambda target: (target.order, *key(target)))
