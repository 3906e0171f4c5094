"""API keys as they are made and recognised."""

from __future__ import annotations

import hashlib
import re

from plugins.contract.credentials import KEY_PREFIX, generate_key, hash_key


def test_generated_keys_differ_and_carry_256_random_bits() -> None:
    """A key cannot be guessed: 43 url-safe characters after the prefix that scanners know."""
    keys = {generate_key().key for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"sk-wattos-[A-Za-z0-9_-]{43}", key) for key in keys)


def test_a_generated_key_is_found_by_the_hash_of_the_whole_key() -> None:
    """Only the SHA-256 is stored, and it is what the look-up is asked with."""
    key, prefix, sha256 = generate_key()
    assert sha256 == hash_key(key) == hashlib.sha256(key.encode()).digest()
    assert key.startswith(prefix)
    assert len(prefix) == len(KEY_PREFIX) + 4
