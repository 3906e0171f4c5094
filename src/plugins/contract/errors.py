"""The root of every error WattOS raises on purpose. Knows no HTTP: `app.http.error_table` has all codes.

    WattosError                 code, retryable, a message that is safe to show to a user
    ├── RetryableError          the same call may succeed later, or at another target
    │   ├── CircuitOpen         the breaker refused the call; nothing was sent
    │   ├── RateLimited         a limit of ours is used up for now; nothing was used up by this
    │   ├── Overloaded          there is more to do than can be done; nothing was begun
    │   └── DeadlinePassed      the caller waits no longer; nothing was begun
    ├── AuthenticationFailed    no credential, or one that is not valid (any more)
    ├── PermissionDenied        a valid credential that may not do this
    └── SettingsError           the environment is wrong: names variable, value and what is allowed

The app's own errors extend these in `app.errors`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from plugins.contract.limits import LimitState


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One failed try. `status`: what the target answered, None when there was no answer; `ms`: how long it took."""

    target: str
    status: int | None
    code: str
    ms: float


class WattosError(Exception):
    """A failure with a stable `code`. `message` must be safe to show: no secret, no prompt, no internal address."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    attempts: tuple[Attempt, ...] = ()
    """What was tried, where several things were."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RetryableError(WattosError):
    """The same call may succeed later or elsewhere. `retry_after_s`: what the other side asked for, if it did."""

    code = "temporarily_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CircuitOpen(RetryableError):
    """The breaker of this target is open: nothing was sent. `retry_after_s` is the time until its next probe."""

    code = "circuit_open"


class Overloaded(RetryableError):
    """This process, or a target, has as many calls as it takes, and as many that wait: nothing was begun."""

    code = "overloaded"


class DeadlinePassed(RetryableError):
    """The caller's own deadline came before its turn: nothing was begun. `app.errors.DeadlineExceeded` is of calls that
    were, and has the same code."""

    code = "upstream_timeout"


class RateLimited(RetryableError):
    """A limit of requests, tokens or calls at once is used up for now. The refused call uses up nothing.

    `limits`: how those of the caller stand.
    """

    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, limits: tuple[LimitState, ...] = ()
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limits = limits


class AuthenticationFailed(WattosError):
    """No credential, or an unknown, expired or revoked one: one message for all, so that nothing can be guessed."""

    code = "invalid_api_key"


class PermissionDenied(WattosError):
    """A valid credential that may not do this."""

    code = "permission_denied"


class SettingsError(WattosError):
    """The environment cannot be used: one line that names the variable, its value and what is allowed."""

    code = "invalid_settings"
