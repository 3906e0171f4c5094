"""The app's error tree. Knows no HTTP: `app.http.error_table` has the one table of codes and statuses.

WattosError
├── RetryableError
│   ├── UpstreamError               a target failed in a way another target, or a later call, may not
│   │   ├── UpstreamRateLimited     … it asked for fewer calls
│   │   ├── UpstreamTimeout         … it did not answer in time
│   │   │   └── DeadlineExceeded    … that the caller gave
│   │   └── UpstreamUnavailable     … it could not be reached, or answered 5xx
│   ├── BudgetUnavailable           whether a budget has money left cannot be said
│   ├── StorageUnavailable          where files are kept cannot be written or read
│   │   └── StorageFull             … no room is left there
│   ├── IdempotencyInProgress       the first request with this Idempotency-Key is still being done
│   └── AllTargetsFailed            the chain is at its end
├── BudgetExceeded                  a budget that covers the call has not enough left
├── PriceUnknown                    a budget covers the call, and nobody knows what it would cost
├── UpstreamRejected                a target says that the request itself is wrong: no other target is asked
│   └── ContentRefused              … because of what it says; only a content-policy fallback is asked
├── UpstreamMisconfigured           a target refuses our key, or does not know its model: the next target is asked
├── InvalidRequest                  malformed or inconsistent input; `param` names the field
│   ├── ContextTooLong              more tokens than the model takes
│   └── BodyTooLarge                over MAX_BODY_BYTES or MAX_FILE_BYTES
├── NotFound                        not there, or not yours: never told apart
│   └── ModelNotFound
├── NotConfigured                   the operator has not set what this needs
├── SignInFailed                    wrong name or password, or a refresh token that is no good (any more)
├── IdempotencyKeyReused            this Idempotency-Key was used with another body
├── IdempotencyAnswerNotKept        the request with this Idempotency-Key was done, its answer is not there
├── BrokenModelsConfig              the file of MODELS_CONFIG, read again, cannot be used
└── Conflict                        the state of the thing does not allow it, or a name is taken
"""

from __future__ import annotations

from typing import Literal

from plugins.contract.errors import RetryableError, WattosError

Reason = Literal[
    "invalid_json",
    "duplicate_key",
    "missing_field",
    "invalid_character",
    "invalid_value",
    "unsupported_parameter",
    "wrong_model_kind",
    "not_ingested",
    "empty_file",
    "weak_password",
]
"""What exactly is wrong with a request, where `invalid_request` says too little. A type, so that there is no other."""


class UpstreamError(RetryableError):
    """A target failed; the next one may not. `status`: what it answered, None when there was no answer."""

    code = "upstream_error"

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.status = status


class UpstreamRateLimited(UpstreamError):
    """The target answered 429. `retry_after_s` is its own `Retry-After`."""

    code = "upstream_rate_limited"


class UpstreamTimeout(UpstreamError):
    """The target did not answer within its time-out."""

    code = "upstream_timeout"


class UpstreamUnavailable(UpstreamError):
    """The target could not be reached, broke off, or answered 5xx."""

    code = "upstream_unavailable"


class DeadlineExceeded(UpstreamTimeout):
    """The caller's own deadline (`x-request-timeout-ms`) came before the answer. No other target is asked."""


class AllTargetsFailed(RetryableError):
    """Every target of the chain failed: the message says which, and how. `retry_after_s`: the shortest asked for."""

    code = "all_targets_failed"


class StorageUnavailable(RetryableError):
    """Where files are kept cannot be written or read."""

    code = "storage_unavailable"


class StorageFull(StorageUnavailable):
    """Where files are kept no room is left. Nothing of the upload stays."""

    code = "storage_full"


class BudgetUnavailable(RetryableError):
    """Whether a budget has money left cannot be said: the database that lends it is away. Money is never guessed."""

    code = "budget_unavailable"


class BudgetExceeded(WattosError):
    """A budget that covers the call has not enough left for it."""

    code = "insufficient_quota"


class PriceUnknown(WattosError):
    """A budget covers the call, and nobody knows what it would cost."""

    code = "price_unknown"


class IdempotencyInProgress(RetryableError):
    """The first request with this Idempotency-Key did not end while this one waited for it."""

    code = "idempotency_in_progress"


class UpstreamRejected(WattosError):
    """The target says that the request itself is wrong (400, 413, 415, 422): five vendors would say the same."""

    code = "upstream_rejected"

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ContentRefused(UpstreamRejected):
    """The target's content policy refuses the request. A fallback that was configured for this is asked."""

    code = "content_policy_violation"


class UpstreamMisconfigured(WattosError):
    """The target refuses our credential, bill, model or address (401 to 405): the operator's to mend.

    Not retried here, but the next target is asked.
    """

    code = "upstream_misconfigured"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidRequest(WattosError):
    """The input is malformed or contradicts itself. `param` names the field, as OpenAI's errors do."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: Reason | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.reason: str = code or self.code


class ContextTooLong(InvalidRequest):
    """More tokens than the model takes. `status`: what a target answered."""

    code = "context_length_exceeded"
    status: int | None = None


class BodyTooLarge(WattosError):
    """The body is over MAX_BODY_BYTES, or the file over MAX_FILE_BYTES."""

    code = "request_too_large"


class NotConfigured(WattosError):
    """The operator has not set what this needs: the message says which setting."""

    code = "not_configured"


class SignInFailed(WattosError):
    """Wrong tenant, name or password, or a refresh token that is no good: one message for all of a kind."""

    code = "sign_in_failed"


class SignInBlocked(RetryableError):
    """Too many failures: the next try must wait, and is not looked at before."""

    code = "sign_in_blocked"


class NotFound(WattosError):
    """Not there, or not yours: the caller is never told which."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No such alias, or this key may not use it."""

    code = "model_not_found"


class IdempotencyKeyReused(WattosError):
    """This Idempotency-Key was used at this route with another body or query. Nothing is done."""

    code = "idempotency_key_reused"


class IdempotencyAnswerNotKept(WattosError):
    """The request with this Idempotency-Key was done, and its answer cannot be given again. Nothing is done."""

    code = "idempotency_answer_not_kept"


class BrokenModelsConfig(WattosError):
    """The file of MODELS_CONFIG cannot be used: the one that was loaded before stays in force."""

    code = "invalid_models_config"


class Conflict(WattosError):
    """The name is taken, or the state of the thing does not allow this."""

    code = "conflict"
