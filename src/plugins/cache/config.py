"""Settings of the cache plugin."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from plugins.cache.address import FORM, address_of
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup

MIB = 1024 * 1024


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_CACHE_…`."""

    max_bytes: Annotated[int, Meta(ge=1024, le=1 << 40)] = 64 * MIB
    """Memory for entries, keys and book-keeping included; least recently used go first. Holds some 15,000 answers."""

    max_entry_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 * MIB
    """A longer value is not kept, so that one does not push out thousands. The longest answers are about 100 KB."""

    cleanup_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    """Seconds between removals of expired entries; they are never served, this only frees their memory."""

    valkey_timeout_ms: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """How long a call of Valkey may take, connecting included; then whoever asked goes on without it. A call takes 0.2
    ms on one machine and some ms between zones; a request must not wait for it longer than this."""

    compress_above_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 4096
    """A longer value is compressed in Valkey, not in memory. 4 kB of text take 0.05 ms, a third of what storing them
    takes, and become 1.8 kB; shorter ones gain less."""

    def __post_init__(self) -> None:
        if self.max_entry_bytes > self.max_bytes:
            raise SettingsError(
                f"PLUGINS_CACHE_MAX_ENTRY_BYTES={self.max_entry_bytes} cannot be used: "
                f"it is over PLUGINS_CACHE_MAX_BYTES={self.max_bytes}"
            )


class ValkeySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`VALKEY_URL`, without a prefix, as other programs name it. Never shown, not even by `repr`."""

    valkey_url: Annotated[str, Meta(pattern=r"^(valkeys?|rediss?|unix)://\S+$", extra={"form": FORM})] | None = None
    """The Valkey (or Redis) that all replicas share, for limits and cache. Unset: each process has its memory alone."""

    def __post_init__(self) -> None:
        if self.valkey_url is not None:
            address_of(self.valkey_url)

    def __repr__(self) -> str:
        return "ValkeySettings(valkey_url=…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("valkey_url", "…")]


SETTINGS = (
    SettingsGroup("cache", CacheSettings, "PLUGINS_CACHE_"),
    SettingsGroup("cache", ValkeySettings),
)
