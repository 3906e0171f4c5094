"""Short-lived tokens of people who signed in: the app signs them, the security plugin checks them.

A token is a signed pointer to a session and nothing more. Role, tenant and whether the session still lives are looked
up each time, from memory, so that no token outlives what it stands for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

ALGORITHM = "HS256"
"""The one, whatever a token's header says."""

ISSUER = AUDIENCE = "wattos"
TYPE = "at+jwt"
"""RFC 9068: a token of another kind, signed with the same secret, is no access token."""

LEEWAY_S = 5.0
"""Clocks of two replicas differ by less."""


class SignedSession(NamedTuple):
    """What a valid token says. `expires_at`: epoch seconds."""

    session_id: UUID
    expires_at: float


class AccessTokens:
    """Signs and checks with one secret of at least 32 characters."""

    def __init__(self, secret: str, *, ttl_s: int, now: Callable[[], float] = time.time) -> None:
        self.ttl_s = ttl_s
        self._secret = secret.encode()
        self._now = now

    def issue(self, session_id: UUID, user_id: UUID) -> str:
        import jwt  # with cryptography 9 MB, which no API key needs

        now = int(self._now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id.hex,
            "sid": session_id.hex,
            "iat": now,
            "nbf": now,
            "exp": now + self.ttl_s,
        }
        return jwt.encode(claims, self._secret, ALGORITHM, headers={"typ": TYPE})

    def check(self, token: str) -> SignedSession | None:
        """None: not ours, not signed by us, not yet or no longer valid. Which, nobody is told."""
        import jwt

        try:
            decoded = jwt.decode_complete(
                token,
                self._secret,
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["exp", "nbf", "iat", "iss", "aud", "sub", "sid"],
                    "verify_exp": False,  # below, by our own clock
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            claims, now = decoded["payload"], self._now()
            begins, ends = max(float(claims["nbf"]), float(claims["iat"])), float(claims["exp"])
            if not begins - LEEWAY_S <= now < ends + LEEWAY_S:
                return None
            if decoded["header"].get("typ") != TYPE or "crit" in decoded["header"]:
                return None
            return SignedSession(UUID(hex=claims["sid"]), ends)
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, RecursionError):
            return None
