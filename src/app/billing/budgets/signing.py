"""Signatures of webhooks, as Standard Webhooks has them: https://github.com/standard-webhooks/standard-webhooks

Any of its libraries checks them, with the secret that is shown when a budget is made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID

_PREFIX = "whsec_"


def secret_of(key: bytes, budget_id: UUID) -> str:
    """It follows from the deployment's key, so it is kept nowhere."""
    return _PREFIX + base64.b64encode(hmac.digest(key, budget_id.bytes, hashlib.sha256)).decode()


def signed_headers(secret: str, message_id: str, time_s: int, body: bytes) -> dict[str, str]:
    """`time_s`: epoch seconds; receivers refuse what is older than minutes."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signature = hmac.digest(key, f"{message_id}.{time_s}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(time_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
