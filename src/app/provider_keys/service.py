"""The rules of own provider keys: set, replaced and deleted, never shown; and handed to the calls of their tenant."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database
from app.database.paging import PageRequest, Rows
from app.errors import NotFound
from app.ids import new_id
from app.llm.own_keys import OwnKey
from app.outbound import checked_url
from app.provider_keys import store
from app.provider_keys.model import ProviderKey
from app.provider_keys.sealing import CannotOpen, Seal
from plugins.contract.credentials import provider_keys_handle
from plugins.contract.ports import ChangeFeed
from plugins.contract.remembered import Remembered

logger = logging.getLogger("app")

_N_HINT: Final = 4
MAX_TENANTS: Final = 10_000
"""Whose keys are remembered."""


class ProviderKeysService:
    """Also the `OwnKeys` port of the chain: which keys a tenant has, from memory."""

    def __init__(self, database: Database, feed: ChangeFeed, seal: Seal, *, allowed_hosts: frozenset[str]) -> None:
        """`allowed_hosts`: addresses inside the network that a key may be for nevertheless."""
        self._database = database
        self._seal = seal
        self._allowed_hosts = allowed_hosts
        self._remembered = Remembered[Mapping[str, OwnKey]](
            self._load, feed, max_age_s=1.0, max_stale_s=300.0, max_entries=MAX_TENANTS, timeout_s=5.0
        )

    async def of(self, tenant_id: UUID) -> Mapping[str, OwnKey]:
        """By vendor. Raises: RetryableError when they cannot be looked up."""
        return await self._remembered.find(provider_keys_handle(tenant_id)) or {}

    async def close(self) -> None:
        await self._remembered.close()

    async def put(
        self, actor: Actor, *, tenant_id: UUID, provider: str, key: str, name: str, base_url: str | None
    ) -> ProviderKey:
        """In force within a second. Raises: NotFound, AddressRefused, NotConfigured."""
        if base_url is not None:
            base_url = checked_url(base_url, param="base_url", allowed=self._allowed_hosts)
        key_id = new_id()
        sealed = self._seal.close(key, _bound_to(tenant_id, key_id, provider))
        hint = key[-_N_HINT:] if len(key) >= 4 * _N_HINT else ""
        try:
            async with self._database.tenant(tenant_id) as session:
                before = await store.of_provider(session, tenant_id, provider)
                made = await store.put(
                    session,
                    tenant_id=tenant_id,
                    id=key_id,
                    provider=provider,
                    name=name,
                    base_url=base_url,
                    hint=hint,
                    sealed=sealed,
                )
                change = Change(
                    action="provider_key.set",
                    kind="provider_key",
                    id=made.id,
                    before={} if before is None else _shown(before),
                    after=_shown(made),
                )
                await record(session, tenant_id, actor, change)
        except IntegrityError:
            raise NotFound("no tenant with this id") from None
        self._remembered.forget(provider_keys_handle(tenant_id))  # elsewhere it is told
        return made

    async def list(self, tenant_id: UUID, wanted: PageRequest) -> Rows[ProviderKey]:
        async with self._database.tenant(tenant_id) as session:
            return await store.page(session, tenant_id, wanted)

    async def delete(self, actor: Actor, tenant_id: UUID, key_id: UUID) -> None:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            provider = await store.remove(session, tenant_id, key_id)
            if provider is None:
                raise NotFound("no provider key with this id")
            gone = Change(action="provider_key.deleted", kind="provider_key", id=key_id, before={"provider": provider})
            await record(session, tenant_id, actor, gone)
        self._remembered.forget(provider_keys_handle(tenant_id))

    async def rotate(self, tenant_id: UUID) -> int:
        """Seal a tenant's keys with the first of ENCRYPTION_KEY. How many were not. Raises: CannotOpen."""
        async with self._database.tenant(tenant_id) as session:
            old = [one for one in await store.sealed(session, tenant_id) if not self._seal.is_current(one.sealed)]
            for one in old:
                bound_to = _bound_to(tenant_id, one.id, one.provider)
                sealed = self._seal.close(self._seal.open(one.sealed, bound_to), bound_to)
                await store.reseal(session, tenant_id, one.id, sealed)
        return len(old)

    async def _load(self, handle: bytes) -> Mapping[str, OwnKey] | None:
        tenant_id = UUID(bytes=handle[1:])
        async with self._database.tenant(tenant_id) as session:
            found = await store.sealed(session, tenant_id)
        opened: dict[str, OwnKey] = {}
        for one in found:
            try:
                secret = self._seal.open(one.sealed, _bound_to(tenant_id, one.id, one.provider))
            except CannotOpen as exc:
                logger.error(  # noqa: TRY400  # its stack tells nothing
                    "the key of tenant %s for %s cannot be used: %s", tenant_id, one.provider, exc.message
                )
                continue
            opened[one.provider] = OwnKey(id=one.id.hex, secret=secret, base_url=one.base_url)
        return opened  # none is known too: it stands while nobody can be asked


def _bound_to(tenant_id: UUID, key_id: UUID, provider: str) -> str:
    return f"{tenant_id}\n{key_id}\n{provider}"


def _shown(key: ProviderKey) -> dict[str, str | None]:
    return {"provider": key.provider, "label": key.name, "base_url": key.base_url, "hint": key.hint}
