"""The two error shapes on the wire; `anthropic_errors` has a third, for its own paths."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from plugins.contract.errors import Attempt


class OpenAIErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenAI's SDKs read: `type` picks the exception class, `code` is the stable name, `param` the field.

    `attempts`: what was tried at which targets, where a model was called.
    """

    message: str
    type: str
    code: str
    param: str | None = None
    attempts: tuple[Attempt, ...] | UnsetType = UNSET


class OpenAIError(msgspec.Struct, frozen=True):
    """Every error under `/v1`."""

    error: OpenAIErrorBody


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every other error: RFC 9457, with our stable `code`; `instance` is the request id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    param: str | None = None
    instance: str | None = None
