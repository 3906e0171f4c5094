"""What can go wrong with the database.

RetryableError
└── DatabaseUnavailable     it cannot be reached, or broke off: 503, and the next request may be served
WattosError
├── DatabaseUnfit           too old, without pgvector, or a role that could bypass tenancy: refuse to start
└── SchemaDrift             its schema is not the one this release expects
"""

from __future__ import annotations

from plugins.contract.errors import RetryableError, WattosError


class DatabaseUnavailable(RetryableError):
    """The server cannot be reached, or the connection was lost in mid-statement."""

    code = "database_unavailable"


class DatabaseUnfit(WattosError):
    """The server or the login role is not good enough: the message says what to change."""

    code = "database_unfit"


class SchemaDrift(WattosError):
    """The schema differs from what this release expects: the message names the first differences."""

    code = "schema_drift"
