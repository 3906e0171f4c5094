"""Cache keys: two of them are equal only if tenant, namespace and every part are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from plugins.contract.principal import TenantId


def create_key(tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
    """`<tenant>:<namespace>:<SHA-256 in hex>`. The tenant is in clear, so that its entries can be found and dropped.

    Tenant and digest have fixed lengths, so the key splits in one way only, whatever the namespace holds. The digest is
    over the parts, each with its kind and length in front: `("ab", "c")`, `("a", "bc")` and `(b"ab", "c")` all differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        kind, data = (b"s", part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else (b"b", part)
        digest.update(kind + len(data).to_bytes(8, "big"))
        digest.update(data)
    return f"{tenant_id}:{namespace}:{digest.hexdigest()}"


def tag_key(tenant: str, tag: str) -> str:
    """`<tenant>:<128 bits of SHA-256 in hex>`: of one length and without spaces, whatever the tag holds."""
    return f"{tenant}:{hashlib.sha256(tag.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def tag_keys(key: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Of the key's own tenant."""
    if not tags:
        return ()
    tenant = key.partition(":")[0]
    return tuple(tag_key(tenant, tag) for tag in dict.fromkeys(tags))
