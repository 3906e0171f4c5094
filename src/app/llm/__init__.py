"""Model alias → chain of targets → attempt → transport; prices and token usage."""
