"""The targets of the catalog as operators see them: how each fares, and its breaker."""
