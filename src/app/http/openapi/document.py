"""The whole document, from the routes of an app."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from app.http.anthropic_errors import AnthropicError, is_anthropic
from app.http.error_table import TABLE
from app.http.openapi.describe import Description, description_of
from app.http.openapi.headers import HEADERS, RATE, references
from app.http.openapi.parameters import IDEMPOTENCY_KEY, Found, parameters_of
from app.http.openapi.schemas import Schema, schemas_of
from app.http.schemas import OpenAIError, Problem
from plugins.contract.permissions import is_public

Node = dict[str, Any]

ABOUT = """\
OpenAI's API for any model of any vendor, and for your documents with citations, under `/v1`; the platform's own API
under `/api/v1`. Every call needs a key (`Authorization: Bearer sk-wattos-…`) but those marked as public.

Errors have a stable `code`: `{"error": {…}}` under `/v1`, RFC 9457's problem details elsewhere. Beside those listed at
an operation, any request can be refused before it is read: 400 `malformed_http`, 408 `request_timeout`, 414
`uri_too_long`, 431 `headers_too_large`, 503 `too_many_connections`. Unknown fields of a body are ignored under `/v1`
and refused under `/api/v1`. `HEAD` is answered wherever `GET` is."""

TAGS: Mapping[str, str] = {
    "chat": "Answers, whole or streamed, from a model or over documents.",
    "completions": "Texts continued, on OpenAI's legacy wire.",
    "messages": "Answers on Anthropic's wire, from any model.",
    "embeddings": "Vectors of texts.",
    "moderations": "Whether texts or pictures are harmful.",
    "models": "What this key may use.",
    "files": "Documents as they were uploaded.",
    "vector stores": "Documents cut, embedded and searchable.",
    "accounts": "Tenants, users, keys and sign-in.",
    "billing": "What was called, and what it cost.",
    "operations": "Health, metrics, plugins. Public.",
}

AUTHENTICATED = ("invalid_api_key", "permission_denied", "database_unavailable", "temporarily_unavailable")
LIMITED = ("rate_limit_exceeded",)
WITH_INPUT = ("invalid_request",)
WITH_BODY = ("invalid_json", "duplicate_key", "invalid_character", "request_timeout", "request_too_large")
WITH_KEY = ("idempotency_in_progress", "idempotency_answer_not_kept", "idempotency_key_reused")
WITH_JSON = ("unsupported_media_type", "invalid_value")
ALWAYS = ("internal_error",)
"""What can go wrong follows from what a route takes: these are codes of `app.http.error_table`."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path, and what was found out about it."""

    path: str
    method: str
    handler: HTTPRouteHandler
    said: Description
    parameters: list[Found]

    @property
    def is_public(self) -> bool:
        return self.handler.opt.get("public") is True

    @property
    def is_limited(self) -> bool:
        return self.handler.opt.get("operations") is not True

    @property
    def tags(self) -> set[str]:
        """Its own, and those of the routers around it."""
        return {tag for layer in self.handler.ownership_layers for tag in getattr(layer, "tags", None) or ()}

    @property
    def success(self) -> Any:
        """The type of the answer: None when there is no body, `bytes` when it is not JSON."""
        if self.said.answer is not None:
            return self.said.answer
        annotation = self.handler.parsed_fn_signature.return_type.annotation
        if inspect.isclass(get_origin(annotation)) and issubclass(get_origin(annotation), Response):
            annotation = get_args(annotation)[0]
        if annotation is NoneType:
            return None
        return annotation if _is_json(self.media_type) else bytes

    @property
    def media_type(self) -> str:
        if self.said.answer is bytes:
            return "application/octet-stream"
        media_type = self.handler.media_type
        return str(getattr(media_type, "value", media_type) or "application/json")

    @property
    def codes(self) -> list[str]:
        """Every code that it can answer with, in order of status."""
        body = self.said.body
        found = [
            *(() if self.is_public else AUTHENTICATED),
            *(LIMITED if self.is_limited else ()),
            *(WITH_INPUT if body or any(parameter.place != "path" for parameter in self.parameters) else ()),
            *(WITH_BODY if body else ()),
            *(WITH_JSON if body and _is_json(body.media_type) else ()),
            *(WITH_KEY if IDEMPOTENCY_KEY in self.parameters else ()),
            *self.said.codes,
            *ALWAYS,
        ]
        unique = dict.fromkeys(found)
        return sorted(unique, key=lambda code: TABLE[code].status)


def document(app: Litestar, *, title: str, version: str) -> Node:
    """OpenAPI 3.1. Takes 30 ms of CPU: not for the loop. Raises: KeyError for a code or header that there is not."""
    operations = [*operations_of(app)]
    taken = [*_taken(operations)]
    given = [*_given(operations), OpenAIError, AnthropicError, Problem]
    requested, answered, components = schemas_of(taken, given)
    schemas_taken, schemas_given = iter(requested), iter(answered)
    paths: dict[str, Node] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _written(operation, schemas_taken, schemas_given)
    used = {tag for operation in operations for tag in operation.tags}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": dict(HEADERS),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "`sk-wattos-…`"}},
        },
    }


def operations_of(app: Litestar) -> Iterator[Operation]:
    """All that are in the document, in order of their routes."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        names = {parameter.name for parameter in route.path_parameters.values()}
        for method, (handler, _) in route.route_handler_map.items():
            if method == "OPTIONS" or not handler.resolve_include_in_schema():
                continue
            takes_key = method == "POST" and not is_public(handler.opt)
            yield Operation(
                path=route.path_format or "/",
                method=method.lower(),
                handler=handler,
                said=description_of(handler),
                parameters=[*parameters_of(handler, names), *((IDEMPOTENCY_KEY,) if takes_key else ())],
            )


def _taken(operations: Sequence[Operation]) -> Iterator[Any]:
    for operation in operations:
        yield from (parameter.kind for parameter in operation.parameters)
        if operation.said.body:
            yield operation.said.body.kind


def _given(operations: Sequence[Operation]) -> Iterator[Any]:
    for operation in operations:
        yield operation.success
        if operation.said.streams is not None:
            yield operation.said.streams
        yield from operation.said.also.values()


def _written(operation: Operation, taken: Iterator[Schema], given: Iterator[Schema]) -> Node:
    """Takes its schemas from both, in the order of `_taken` and `_given`."""
    handler, said = operation.handler, operation.said
    parameters = [parameter.written(next(taken)) for parameter in operation.parameters]
    body = {"requestBody": _body(said, next(taken))} if said.body else {}
    summary, text = _texts(handler)
    return {
        "operationId": handler.operation_id if isinstance(handler.operation_id, str) else _camel(handler.handler_name),
        "tags": sorted(operation.tags),
        "summary": summary,
        **({"description": text} if text.rstrip(".").replace("`", "") != summary else {}),
        **({"security": []} if operation.is_public else {}),
        **({"parameters": parameters} if parameters else {}),
        **body,
        "responses": {**_successes(operation, given), **_errors(operation)},
    }


def _body(said: Description, schema: Schema) -> Node:
    assert said.body is not None
    examples = {name: {"value": value} for name, value in said.body.examples.items()}
    content = {"schema": schema, **({"examples": examples} if examples else {})}
    return {"required": said.body.is_required, "content": {said.body.media_type: content}}


def _successes(operation: Operation, given: Iterator[Schema]) -> dict[str, Node]:
    schema, said = next(given), operation.said
    content: Node = {}
    if operation.success is bytes:
        is_text = operation.media_type.startswith("text/")
        content[operation.media_type] = {"schema": {"type": "string", **({} if is_text else {"format": "binary"})}}
    elif operation.success is not None:
        content[operation.media_type] = {"schema": schema}
    content |= {media_type: {"schema": {"type": "string"}} for media_type in said.texts}
    if said.streams is not None:
        content["text/event-stream"] = {"schema": _event(next(given)["$ref"].rpartition("/")[2])}
    replayed = ("idempotent-replayed",) if IDEMPOTENCY_KEY in operation.parameters else ()
    rate = () if operation.is_public else RATE
    answers = {operation.handler.status_code: (content, (*said.headers, *replayed, *rate))}
    for status in said.also:
        answers[status] = ({"application/json": {"schema": next(given)}}, ())
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": references(("x-request-id", *headers)),
            **({"content": content} if content else {}),
        }
        for status, (content, headers) in answers.items()
    }


def _event(name: str) -> Schema:
    """One server-sent event, as tools read a schema of this media type (and OpenAPI 3.2 its `itemSchema`)."""
    text = (
        f"The JSON of one {name}; of the last event `[DONE]`. A stream that breaks ends with one OpenAIError instead."
    )
    return {
        "type": "object",
        "description": "Each of the server-sent events.",
        "properties": {"data": {"type": "string", "description": text}},
        "required": ["data"],
    }


def _errors(operation: Operation) -> dict[str, Node]:
    """By status. The description names the codes."""
    is_openai = operation.path.startswith("/v1/")
    name = "AnthropicError" if is_anthropic(operation.path) else "OpenAIError" if is_openai else "Problem"
    media_type = "application/json" if is_openai else "application/problem+json"
    schema = {"$ref": f"#/components/schemas/{name}"}
    by_status: dict[int, list[str]] = {}
    for code in operation.codes:
        by_status.setdefault(TABLE[code].status, []).append(code)
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {TABLE[code].meaning}" for code in codes),
            "headers": references((*_error_headers(status, codes), *(RATE if "rate_limit_exceeded" in codes else ()))),
            "content": {media_type: {"schema": schema}},
        }
        for status, codes in by_status.items()
    }


def _error_headers(status: int, codes: Sequence[str]) -> tuple[str, ...]:
    retry = ("retry-after",) if any(TABLE[code].retryable for code in codes) else ()
    final = () if all(TABLE[code].retryable for code in codes) else ("x-should-retry",)
    challenge = ("www-authenticate",) if status == HTTPStatus.UNAUTHORIZED else ()
    return ("x-request-id", *retry, *final, *challenge)


def _texts(handler: HTTPRouteHandler) -> tuple[str, str]:
    """Summary: the first sentence without its stop and marks. Description: all of it."""
    text = " ".join((inspect.getdoc(handler.fn) or "").split())
    first, _, _ = text.partition(". ")
    return handler.summary or first.rstrip(".").replace("`", ""), handler.description or text or (handler.summary or "")


def _camel(name: str) -> str:
    head, *rest = name.rpartition(".")[2].split("_")
    return head + "".join(part.title() for part in rest)


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")
