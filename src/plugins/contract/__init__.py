"""The plugin SDK: what a plugin may know of the app, and the app of its plugins. A leaf: it imports neither."""
