"""Passwords: argon2id, in a thread, a few at a time; and what is no password."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Final

from app.errors import InvalidRequest
from app.weak_secrets import is_guessable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PASSES: Final = 2
MEMORY_KIB: Final = 19 * 1024
"""OWASP's first choice for argon2id: 19 MiB, 2 passes. About 20 ms on one core."""

N_AT_ONCE: Final = 2
"""So many sign-ins cannot take more than 40 MB, nor the threads of others."""


class Passwords:
    """Hashes and checks. Checking a password of nobody takes as long as checking a wrong one."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(N_AT_ONCE)
        self._of_nobody: str | None = None

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(_hashed, password)

    async def is_right(self, password: str, password_hash: str | None) -> bool:
        """`password_hash` None: there is no such user, or none who signs in so."""
        if password_hash is None:
            self._of_nobody = self._of_nobody or await self.hash("a password that nobody has")
        async with self._turns:
            checked = await asyncio.to_thread(_matches, password_hash or self._of_nobody or "", password)
        return checked and password_hash is not None


def require_strong(password: str, *known: str) -> None:
    """Raises: InvalidRequest for what is guessed first: the user's own words, repetitions and sequences."""
    lowered = password.casefold()
    words = [part for text in known for part in {text, text.partition("@")[0]} if len(part) >= 4]
    if is_guessable(lowered) or any(word.casefold() in lowered for word in words):
        raise InvalidRequest(
            "this password is easily guessed: take at least 12 characters that are not your name, a repetition or a"
            " sequence",
            param="password",
            code="weak_password",
        )


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # 2 MB, for who signs in

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)


def _hashed(password: str) -> str:
    return _hasher().hash(password)


def _matches(password_hash: str, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return _hasher().verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
