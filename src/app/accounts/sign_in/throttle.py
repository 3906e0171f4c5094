"""How often one may fail to sign in, by name and by address: counted in the database, so by all replicas together.

After `FREE_FAILURES` of a name each further one doubles the wait, up to `MAX_WAIT_S`: 100 guesses a day. By address
there are more free ones, as an office has one address. A name that nobody has is counted alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

FREE_FAILURES: Final = 5
FREE_FAILURES_OF_ADDRESS: Final = 100
FIRST_WAIT_S: Final = 15.0
MAX_WAIT_S: Final = 900.0
FORGOTTEN_AFTER: Final = timedelta(hours=24)

Failures = Mapping[bytes, tuple[int, datetime]]


def name_subject(slug: str, email: str) -> bytes:
    return hashlib.sha256(f"name\n{slug}\n{email}".encode()).digest()


def address_subject(address: str) -> bytes:
    """Of IPv6 the network of 64 bits, which one customer has."""
    if ":" in address and not address.startswith("::ffff:"):
        import ipaddress

        address = str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False).network_address)
    return hashlib.sha256(f"address\n{address}".encode()).digest()


def wait_s(failures: Failures, now: datetime, limits: Mapping[bytes, int]) -> float:
    """How long the next try must wait. `limits`: free failures by subject."""
    return max((_wait_s(failures.get(subject), now, free) for subject, free in limits.items()), default=0.0)


def _wait_s(failed: tuple[int, datetime] | None, now: datetime, free: int) -> float:
    if failed is None or failed[0] < free or now - failed[1] > FORGOTTEN_AFTER:
        return 0.0
    n_failures, last_at = failed
    wait = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(n_failures - free, 10))
    return max(0.0, wait - (now - last_at).total_seconds())
