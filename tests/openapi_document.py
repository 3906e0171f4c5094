"""The OpenAPI document of the production app, and what tests ask it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from app.factory import build_app
from app.http.openapi.document import document
from server import ADMIN_KEY

Node = Mapping[str, Any]


@cache
def the_document() -> dict[str, Any]:
    """As it is served. Treat it as read-only."""
    with tempfile.TemporaryDirectory() as directory:
        app = build_app({"ADMIN_KEY": ADMIN_KEY, "DATA_DIR": directory, "LOCAL_MODELS_ENABLED": "false"})
    return document(app, title="WattOS", version="0")


def operations(found: Node) -> Iterator[tuple[str, str, Node]]:
    """Path, method, operation."""
    for path, item in found["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def operation(found: Node, operation_id: str) -> tuple[str, str, Node]:
    return next(one for one in operations(found) if one[2]["operationId"] == operation_id)


def nodes(node: Any, at: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the document with where it stands; examples are values, not parts of it."""
    if isinstance(node, dict):
        yield at, node
        for key, value in node.items():
            if key not in {"examples", "example", "default"}:
                yield from nodes(value, f"{at}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from nodes(value, f"{at}/{number}")


def validator(found: Node, schema: Node) -> Validator:
    """For values of `schema`, whose references are the document's; formats are checked too."""
    whole = {**schema, "components": found["components"]}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
