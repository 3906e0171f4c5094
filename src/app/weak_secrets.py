"""Secrets that are none: too short, typed in, or copied from an example. Production refuses them."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import parse_qsl, unquote, urlsplit

MIN_KEY_CHARACTERS = 32

MIN_DIFFERENT_CHARACTERS = 10
"""32 random hex digits hold 14 of the 16 on average, and one in 10^4 times fewer than 10. A typed-in run has a few."""

MAX_NEIGHBOURS = 2 / 3
"""Share of characters that follow their neighbour in the alphabet. Of 32 random hex digits one in 10^10 has so many."""

_EXAMPLE_PASSWORDS = frozenset(
    ("postgres", "password", "passwort", "changeme", "change-me", "secret", "admin", "wattos", "example", "replace-me")
)
"""Passwords that come with examples, as in `postgres:postgres@`."""

_EXAMPLE_WORDS = (*(word for word in _EXAMPLE_PASSWORDS if len(word) >= 7), "0123456789", "1234567890", "qwertyuiop")
"""Shorter words can stand in a random key by chance; of these, one in 10^9 keys holds one."""


def is_weak_key(key: str) -> bool:
    """Whether a key can be guessed: too short, few characters, a piece repeated, a sequence, or an example's words."""
    lowered = key.lower()
    return (
        len(key) < MIN_KEY_CHARACTERS
        or len(set(key)) < MIN_DIFFERENT_CHARACTERS
        or key in (key + key)[1:-1]
        or sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(key)) > MAX_NEIGHBOURS * len(key)
        or any(word in lowered for word in _EXAMPLE_WORDS)
        or _is_placeholder(key)
    )


MIN_DIFFERENT_OF_PASSWORD = 5
"""Of a person's own choice, which has words in it."""


def is_guessable(password: str) -> bool:
    """Whether a person's password is among the first that are tried: few characters, repeated, a sequence, a word."""
    lowered = password.lower()
    return (
        len(set(lowered)) < MIN_DIFFERENT_OF_PASSWORD
        or lowered in (lowered + lowered)[1:-1]
        or sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(lowered)) > MAX_NEIGHBOURS * len(lowered)
        or any(lowered.strip("0123456789!?.-_#*") == word for word in (*_EXAMPLE_PASSWORDS, "qwertzuiop", "qwertyuiop"))
    )


def is_example_password(password: str) -> bool:
    return password.lower() in _EXAMPLE_PASSWORDS or _is_placeholder(password)


def _is_placeholder(text: str) -> bool:
    """`<admin-key>`, as in `deploy/env`."""
    return text.startswith("<") and text.endswith(">")


def password_of(url: str | None) -> str:
    """The password in an address, before the host or as a parameter; empty if there is none."""
    try:
        parts = urlsplit(url or "")
        return unquote(parts.password or "") or dict(parse_qsl(parts.query)).get("password", "")
    except ValueError:
        return ""
