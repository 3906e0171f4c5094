"""WattOS beside LiteLLM's proxy in one run: `make bench`."""
