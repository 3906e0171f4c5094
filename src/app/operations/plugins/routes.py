"""The plugins of this process."""

import msgspec
from litestar import get

from app.operations.listener import OPERATIONS
from plugins.contract.discovery import PluginState


class PluginList(msgspec.Struct, frozen=True):
    """All of them, also those that are off."""

    data: tuple[PluginState, ...]


@get("/plugins", operation_id="listPlugins", opt=OPERATIONS, tags=["operations"])
async def list_plugins(plugin_states: tuple[PluginState, ...]) -> PluginList:
    """Name, version, state and the reason for it, in mounting order."""
    return PluginList(data=plugin_states)
