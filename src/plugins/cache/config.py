"""Settings of the cache plugin."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

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

    def __post_init__(self) -> None:
        if self.max_entry_bytes > self.max_bytes:
            raise SettingsError(
                f"PLUGINS_CACHE_MAX_ENTRY_BYTES={self.max_entry_bytes} cannot be used: "
                f"it is over PLUGINS_CACHE_MAX_BYTES={self.max_bytes}"
            )


SETTINGS = (SettingsGroup("cache", CacheSettings, "PLUGINS_CACHE_"),)
