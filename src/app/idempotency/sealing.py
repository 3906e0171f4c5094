"""What is kept of requests tells nothing to who reads the database: answers are sealed, bodies are keyed digests.

Both keys follow from the deployment's secret of access tokens, which every replica has and no database: no setting
more. Whoever knows that secret can act as anybody anyway. See docs/decisions/0013-idempotency-in-postgres.md.
"""

from __future__ import annotations

import hmac
import os

import msgspec

from app.errors import IdempotencyAnswerNotKept
from app.idempotency.model import Answer, Place

_ID_BYTES = 4
"""Of the secret's id, in front of each fingerprint: enough to see that it is another one."""
_NONCE_BYTES = 12

MARK = b"--\0"
"""In a form's fingerprint it stands where the boundary stood: clients make a new one for each try."""


class Secrets:
    """Both keys of one deployment."""

    def __init__(self, secret: str) -> None:
        def derived(purpose: bytes) -> bytes:
            return hmac.digest(secret.encode(), b"wattos idempotency " + purpose, "sha256")

        self._sealing = derived(b"answers")
        self._fingerprints = derived(b"fingerprints")
        self._id = derived(b"id")[:_ID_BYTES]

    def fingerprint(self, query: bytes, boundary: bytes | None = None) -> Fingerprint:
        """Of a request that is about to be read. `boundary`: of its form, if it is one."""
        return Fingerprint(self._id, hmac.new(self._fingerprints, query + b"\n", "sha256"), boundary)

    def is_ours(self, fingerprint: bytes) -> bool:
        """Whether it was made with this secret: with another one, nothing can be compared."""
        return fingerprint.startswith(self._id)

    def close(self, place: Place, answer: Answer) -> bytes:
        """nonce ‖ AES-256-GCM, bound to its place. The first call imports for 50 ms: in a thread."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 9 MB, for who sends such keys

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._sealing).encrypt(nonce, msgspec.msgpack.encode(answer), _bound_to(place))

    def open(self, place: Place, sealed: bytes) -> Answer:
        """Raises: IdempotencyAnswerNotKept."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            opened = AESGCM(self._sealing).decrypt(nonce, rest, _bound_to(place))
        except (InvalidTag, ValueError):
            raise not_kept() from None
        return msgspec.msgpack.decode(opened, type=Answer)


class Fingerprint:
    """Of one request: its query and its body as it is read, a piece at a time. Keyed, for bodies hold passwords."""

    def __init__(self, secret_id: bytes, digest: hmac.HMAC, boundary: bytes | None) -> None:
        self._secret_id = secret_id
        self._digest = digest
        self._delimiter = b"--" + boundary if boundary else None
        self._rest = b""
        """What may be the beginning of a delimiter."""

    def add(self, piece: bytes) -> None:
        if self._delimiter is None:
            self._digest.update(piece)
            return
        *whole, rest = (self._rest + piece).split(self._delimiter)
        for part in whole:
            self._digest.update(part + MARK)
        at = max(0, len(rest) - len(self._delimiter) + 1)
        self._digest.update(rest[:at])
        self._rest = rest[at:]

    def done(self) -> bytes:
        """At the body's end. Returns: bytes[36]."""
        digest = self._digest.copy()
        digest.update(self._rest)
        return self._secret_id + digest.digest()


def not_kept() -> IdempotencyAnswerNotKept:
    return IdempotencyAnswerNotKept(
        "this request was done, but its answer was not kept: look at what it did before you use another key"
    )


def _bound_to(place: Place) -> bytes:
    return place.tenant_id.bytes + place.id
