"""The plugins of this process."""

from litestar import get

from plugins.contract.discovery import PluginState


@get("/plugins", operation_id="listPlugins", opt={"public": True}, tags=["operations"])
async def list_plugins(plugin_states: tuple[PluginState, ...]) -> dict[str, tuple[PluginState, ...]]:
    """Name, version, state and the reason for it, in mounting order."""
    return {"data": plugin_states}
