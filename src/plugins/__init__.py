"""Everything cross-cutting: one folder a plugin, mounted in order, each switched by `PLUGINS_<NAME>_ENABLED`."""
