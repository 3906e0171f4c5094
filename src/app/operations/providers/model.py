"""One target, as it fares in this process."""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from app.llm.model import Target
from app.llm.outcomes import LastError
from app.llm.traffic import Fare
from plugins.contract.breakers import BreakerStatus


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`breaker` None: the resilience plugin is off, so there are none."""

    id: UUID
    target: Target
    fare: Fare
    breaker: BreakerStatus | None
    last_error: LastError | None


def provider_id(known_as: str) -> UUID:
    """Of a target, whose own id may hold slashes. The same on all replicas and after a restart."""
    return UUID(bytes=hashlib.sha256(known_as.encode()).digest()[:16])
