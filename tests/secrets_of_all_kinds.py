"""One secret of every kind that passes through a gateway: made up, and random, so that none stands there by chance."""

from __future__ import annotations

import base64
import secrets
import string

_LETTERS = string.ascii_letters + string.digits


def _random(n_characters: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(n_characters))


PASSWORD = f"Hunter-{_random(12)}"
JWT = f"eyJ{_random(20)}.eyJ{_random(40)}.{_random(43)}"

BY_SHAPE: dict[str, str] = {
    "wattos": f"sk-wattos-{_random(43)}",
    "openai": f"sk-proj-{_random(48)}",
    "anthropic": f"sk-ant-api03-{_random(60)}",
    "aws": f"AKIA{_random(16).upper()}",
    "google": f"AIzaSy{_random(33)}",
    "github": f"ghp_{_random(36)}",
    "hugging face": f"hf_{_random(34)}",
    "groq": f"gsk_{_random(52)}",
    "jwt": JWT,
    "url": f"postgresql://wattos:{PASSWORD}@db/wattos",
    "pem": f"-----BEGIN PRIVATE KEY-----\n{_random(64)}\n{_random(64)}\n-----END PRIVATE KEY-----",
    "bearer": f"Bearer {_random(32)}",
    "basic": "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
}
"""Known by how they look, wherever they stand."""

BY_NAME: dict[str, str] = {
    "password": PASSWORD,
    "api-key": secrets.token_hex(16),
    "aws_secret_access_key": _random(40),
    "client_secret": _random(24),
    "cookie": f"session={_random(32)}",
    "refresh_token": _random(32),
}
"""Known only by the name in front of them."""


def telling_part(secret: str) -> str:
    """What must not be found: the secret without the word that tells what it is."""
    if "://" in secret:
        return PASSWORD
    return secret.removeprefix("Bearer ").removeprefix("Basic ").splitlines()[1 if "BEGIN" in secret else 0]
