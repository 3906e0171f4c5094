"""Calls to things that fail: a circuit breaker around each, retries with backoff where the caller allows them."""
