"""The parameters of an operation, from its handler's signature."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, Union

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

RESERVED = frozenset({"request", "state", "scope", "headers", "cookies", "query", "body", "data", "socket"})
"""Names that Litestar itself provides."""

IN_PATH: dict[str, tuple[str, str | None]] = {
    "file_id": ("A file's id.", "file_019a2b3c4d5e7f8091a2b3c4d5e6f708"),
    "store_id": ("A vector store's id.", "vs_019a2b3c4d5e7f8091a2b3c4d5e6f708"),
    "id": ("The id, as lists show it.", None),
    "provider_id": ("The id, as lists show it.", None),
    "model": ("A model's name; a slash in it may be sent as it is, or as %2F.", "wattos-extractive"),
}
"""What an id in a path is, with an example."""

IN_QUERY: dict[str, str] = {
    "after": "The last id of the page before.",
    "order": "By time of creation.",
    "purpose": "Files of this purpose only.",
    "filter": "Files in this state only.",
    "tenant_id": "Whose; your own tenant if you belong to one, so this is for the platform's administrator.",
    "action": "Events of this kind only, as `key.created`.",
    "erase": "Whether the audit log forgets who it was, too.",
}
"""What a parameter is that several lists have."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter; its schema is made with those of all others."""

    name: str
    place: Literal["path", "query", "header"]
    kind: Any
    required: bool
    description: str | None
    default: Any
    example: str | None

    def written(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The OpenAPI parameter object around `schema`."""
        default = {} if self.required or self.default is None else {"default": self.default}
        return {
            "name": self.name,
            "in": self.place,
            "required": self.required,
            **({"description": self.description} if self.description else {}),
            "schema": {**schema, **default},
            **({"example": self.example} if self.example else {}),
        }


IDEMPOTENCY_KEY = Found(
    name="Idempotency-Key",
    place="header",
    kind=Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern="^[!-~]+$")],
    required=False,
    description="The same request sent again with the same key is answered again for 24 hours, and not done again.",
    default=None,
    example=None,
)
"""Of every POST of a known caller (`app.idempotency`)."""


def parameters_of(handler: HTTPRouteHandler, path_names: set[str]) -> list[Found]:
    """In the order of the signature, those of the path first."""
    found = [*_found(handler, path_names)]
    return sorted(found, key=lambda parameter: parameter.place != "path")


def _found(handler: HTTPRouteHandler, path_names: set[str]) -> Iterator[Found]:
    provided = handler.resolve_dependencies().keys() | RESERVED
    for name, field in handler.parsed_fn_signature.parameters.items():
        if name in path_names:
            description, example = IN_PATH.get(name, (None, None))
            yield Found(
                name=name,
                place="path",
                kind=_kind(field),
                required=True,
                description=description,
                default=None,
                example=example,
            )
        elif name not in provided:
            told = field.kwarg_definition if isinstance(field.kwarg_definition, ParameterKwarg) else None
            alias = (told and (told.header or told.query or getattr(told, "name", None))) or name
            yield Found(
                name=alias,
                place="header" if told and told.header else "query",
                kind=_kind(field),
                required=field.is_required and not field.has_default,
                description=(told and told.description) or IN_QUERY.get(alias),
                default=field.default if field.has_default else None,
                example=None,
            )


def _kind(field: FieldDefinition) -> Any:
    """What a value is: no parameter can be null, so `| None` only says that it may be left out."""
    annotation = field.annotation
    members = [inner.annotation for inner in field.inner_types or () if inner.annotation is not NoneType]
    if field.is_optional and members:
        annotation = Union[tuple(members)]  # noqa: UP007  # made at run time, of as many as there are
    told = field.kwarg_definition
    bounds = {
        name: value
        for name, value in (
            ("ge", getattr(told, "ge", None)),
            ("le", getattr(told, "le", None)),
            ("gt", getattr(told, "gt", None)),
            ("lt", getattr(told, "lt", None)),
            ("min_length", getattr(told, "min_length", None)),
            ("max_length", getattr(told, "max_length", None)),
            ("pattern", getattr(told, "pattern", None)),
        )
        if value is not None
    }
    return Annotated[annotation, msgspec.Meta(**bounds)] if bounds else annotation
