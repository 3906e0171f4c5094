"""The wire of `/v1/moderations`. Requests and answers pass through; this is what is checked and told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from app.errors import InvalidRequest
from app.http.body import decode_object, read_field
from app.model_calls import WISHES

Text = Annotated[str, Meta(min_length=1)]


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, once read. `model` empty: whichever this key may use."""

    model: str
    fields: Mapping[str, msgspec.Raw]


def read_moderation_request(body: bytes) -> ModerationRequest:
    """Raises: InvalidRequest naming the field."""
    fields = decode_object(body)
    asked = read_field(fields, "input", str | list[str | dict[str, msgspec.Raw]])  # type: ignore[arg-type]
    if not asked:
        raise InvalidRequest("input is missing: a text, texts, or parts", param="input", code="missing_field")
    return ModerationRequest(
        model=read_field(fields, "model", str) or "",
        fields={name: value for name, value in fields.items() if name not in WISHES},
    )


class ModerationCreate(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's request. Without `model` the first moderation model that the key may use is asked."""

    input: Text | Annotated[list[Text], Meta(min_length=1)]
    model: str | None = None


EXAMPLES = {"texts": {"model": "omni-moderation-latest", "input": ["Have a nice day."]}}


class ModerationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of one input."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class Moderation(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's answer, in the order of the input."""

    id: str
    model: str
    results: list[ModerationResult]
