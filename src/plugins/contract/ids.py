"""How ids are written, to clients and in logs alike: a prefix that names the kind, an underscore, 32 hex digits."""

from __future__ import annotations

from uuid import UUID


def shown_id(prefix: str, value: UUID) -> str:
    """`ten_0190…`. The app's `decode_id` is the inverse."""
    return f"{prefix}_{value.hex}"
