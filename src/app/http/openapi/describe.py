"""What a route says about itself that its signature does not: its body, its errors, its other answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from plugins.contract import permissions
from plugins.contract.permissions import Permission

DESCRIPTION = "described"
"""Key in a handler's `opt`."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What the request holds. `kind`: the struct that it is decoded into, or that says what is passed through."""

    kind: Any
    media_type: str = "application/json"
    is_required: bool = True
    examples: Mapping[str, Any] = {}
    """By name; each is tested to be valid."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. The empty one is right for a route that only reads."""

    body: Body | None = None
    answer: Any = None
    """The struct of a success, where the return annotation does not say it; `bytes` for a download."""
    streams: Any = None
    """The struct of one event, where the answer can be `text/event-stream` too."""
    texts: Sequence[str] = ()
    """Further media types of a success that is text: the handler's own is the first."""
    also: Mapping[int, Any] = {}
    """Answers that are no errors, by status."""
    codes: Sequence[str] = ()
    """Rows of `app.http.error_table` beyond those that the signature implies."""
    headers: Sequence[str] = ()
    """Headers of a success: names of `app.http.openapi.headers`."""


def described(
    *,
    body: Body | None = None,
    answer: Any = None,
    streams: Any = None,
    texts: Sequence[str] = (),
    also: Mapping[int, Any] | None = None,
    codes: Sequence[str] = (),
    headers: Sequence[str] = (),
    needs: Permission | None = None,
) -> dict[str, Any]:
    """For a handler's `opt`. `needs`: what who calls must be allowed; every route that is not public says it."""
    made = Description(
        body=body, answer=answer, streams=streams, texts=texts, also=also or {}, codes=codes, headers=headers
    )
    return {DESCRIPTION: made} if needs is None else {DESCRIPTION: made, **permissions.needs(needs)}


def description_of(handler: HTTPRouteHandler) -> Description:
    """What the handler said; of a third party's, that it said nothing."""
    found = handler.opt.get(DESCRIPTION)
    return found if isinstance(found, Description) else Description()


MODEL_CALL = (
    "missing_field",
    "wrong_model_kind",
    "context_length_exceeded",
    "content_policy_violation",
    "upstream_rejected",
    "model_not_found",
    "upstream_rate_limited",
    "upstream_error",
    "upstream_unavailable",
    "upstream_misconfigured",
    "circuit_open",
    "overloaded",
    "all_targets_failed",
    "upstream_timeout",
)
"""Codes of every call of a model."""
