"""OpenAI's published OpenAPI document (`tests/openai_spec`): what has it against an answer?"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from server import ROOT

DOCUMENT = ROOT / "tests" / "openai_spec" / "openai_answers.json"


@cache
def validator_of(name: str) -> Draft202012Validator:
    document = json.loads(DOCUMENT.read_text())
    schemas = {key: _without_nullable(schema) for key, schema in document["components"]["schemas"].items()}
    whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def _without_nullable(node: Any) -> Any:
    """OpenAPI 3.0's `nullable: true`, which this document of 3.1 still has, in JSON Schema's words."""
    if isinstance(node, list):
        return [_without_nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _without_nullable(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [kept, {"type": "null"}]} if node.get("nullable") is True else kept


def wrong_in(name: str, value: Any) -> list[str]:
    """What the document has against it, each with its place."""
    return [f"{error.json_path}: {error.message}"[:300] for error in validator_of(name).iter_errors(value)]
