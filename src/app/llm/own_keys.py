"""A tenant's own keys of vendors in the place of the operator's, for that tenant's calls alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

import msgspec

from app.errors import UpstreamMisconfigured
from app.llm.model import Plan, Target

OPERATORS_AT_VENDOR = frozenset({"organization"})
"""Parameters that go with the operator's account."""
OPERATORS = OPERATORS_AT_VENDOR | {"extra_headers", "extra_body"}
"""And those that may hold secrets, which an address of the tenant's must not see."""


class OwnKey(msgspec.Struct, frozen=True, kw_only=True):
    """`base_url`: where it is good, if not at the vendor's own address."""

    id: str
    secret: str
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"OwnKey(id={self.id!r})"


class OwnKeys(Protocol):
    """Which keys a tenant has, by vendor. Raises: RetryableError."""

    async def of(self, tenant_id: UUID) -> Mapping[str, OwnKey]: ...


class NoOwnKeys:
    """No tenant has any."""

    async def of(self, tenant_id: UUID) -> Mapping[str, OwnKey]:
        return {}


async def with_own_keys(plan: Plan, tenant_id: UUID | None, own_keys: OwnKeys) -> Plan:
    """The same plan, its targets called with the tenant's keys where it has some and the configuration allows it."""
    if tenant_id is None or not (_any(plan.targets) or _any(plan.on_context) or _any(plan.on_policy)):
        return plan
    keys = await own_keys.of(tenant_id)
    if not keys:
        return plan
    groups = (plan.targets, plan.on_context, plan.on_policy)
    targets, on_context, on_policy = (tuple(_with_key(target, keys) for target in group) for group in groups)
    return Plan(targets=targets, on_context=on_context, on_policy=on_policy)


def require_key(target: Target) -> None:
    """Raises: UpstreamMisconfigured for a target that is called with the tenant's own key alone, if it has none."""
    if target.tenant_key == "required" and not target.own_key_id:
        provider = target.provider_model.partition("/")[0]
        raise UpstreamMisconfigured(f"{target.id} needs your own key of {provider}: POST /api/v1/provider-keys")


def _any(targets: tuple[Target, ...]) -> bool:
    for target in targets:  # noqa: SIM110  # `any` costs three times as much, and this is every call
        if target.tenant_key != "never":
            return True
    return False


def _with_key(target: Target, keys: Mapping[str, OwnKey]) -> Target:
    key = keys.get(target.provider_model.partition("/")[0]) if target.tenant_key != "never" else None
    if key is None:
        return target
    kept = OPERATORS_AT_VENDOR if key.base_url is None else OPERATORS
    params = {**{name: value for name, value in target.params.items() if name not in kept}, "api_key": key.secret}
    if key.base_url is not None:
        params["api_base"] = key.base_url
        if target.transport == "bridge":
            raise UpstreamMisconfigured(f"{target.id} cannot be called at an address of your own")
    return msgspec.structs.replace(target, params=params, own_key_id=key.id, is_own_address=key.base_url is not None)
