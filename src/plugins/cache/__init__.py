"""Answers that need not be computed twice: bytes by key, for a while, in memory and in a Valkey that replicas share."""
