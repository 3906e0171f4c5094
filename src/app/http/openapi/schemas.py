"""Types → JSON Schema (2020-12), as OpenAPI 3.1 takes it.

msgspec writes it, not Litestar: Litestar 2.25 leaves out discriminators and loses bounds inside `| None`. What client
generators still trip over is mended here, in one place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

Schema = dict[str, Any]

PREFIX = "#/components/schemas/"

_GENERIC = re.compile(r"(?P<generic>\w+)_(?:[\w.]*\.)?(?P<of>\w+)_")
"""msgspec's name of `Page[app.accounts.schemas.KeyOut]` is `Page_app.accounts.schemas.KeyOut_`."""

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def schemas_of(taken: Sequence[Any], given: Sequence[Any]) -> tuple[list[Schema], list[Schema], dict[str, Schema]]:
    """Returns: the schema of each type that is `taken` in and `given` out, in order, and the components they refer to.

    In answers every field of a struct is written, defaults too, so there all of them are `required`.
    """
    written, components = msgspec.json.schema_components([*taken, *given], ref_template=PREFIX + "{name}")
    asked_for = _names([*msgspec.json.schema_components(taken, ref_template=PREFIX + "{name}")[1]])
    names = _names(components)
    for kind in _structs(given):
        (reference,), _ = msgspec.json.schema_components([kind], ref_template="{name}")
        raw = components.get(reference["$ref"])
        if raw is not None and _names([reference["$ref"]])[reference["$ref"]] not in asked_for.values():
            raw["required"] = _always_written(kind, raw)
    mended = [_mended(schema, names) for schema in written]
    named = {names[raw]: _mended(schema, names) for raw, schema in components.items()}
    return mended[: len(taken)], mended[len(taken) :], dict(sorted(named.items()))


def public_name(raw: str) -> str:
    """What clients call it: `KeyOut` is a `KeyObject`, and a page of them a `KeyObjectPage`."""
    if generic := _GENERIC.fullmatch(raw):
        return public_name(generic["of"]) + generic["generic"]
    return raw.removesuffix("Out") + "Object" if raw.endswith("Out") else raw


def _names(raw: Iterable[str]) -> dict[str, str]:
    names = {name: public_name(name) for name in raw}
    if len(set(names.values())) < len(names):
        raise ValueError(f"two types have one name in the OpenAPI document: {sorted(names)}")
    return names


def _structs(kinds: Sequence[Any]) -> list[Any]:
    """All struct types inside, each once."""
    found: dict[Any, None] = {}

    def walk(node: object) -> None:
        if isinstance(node, msgspec.inspect.StructType):
            if node.cls in found:
                return
            found[node.cls] = None
        for name in getattr(node, "__struct_fields__", ()):
            value: object = getattr(node, name)
            items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
            for item in items:
                if isinstance(item, msgspec.inspect.Type | msgspec.inspect.Field):
                    walk(item)

    for info in msgspec.inspect.multi_type_info(kinds):
        walk(info)
    return [*found]


def _always_written(kind: Any, schema: Schema) -> list[str]:
    config = getattr(kind, "__origin__", kind).__struct_config__
    if config.omit_defaults:
        return list(schema["required"])
    unset = {field.encode_name for field in msgspec.structs.fields(kind) if field.default is msgspec.UNSET}
    return [name for name in schema["properties"] if name not in unset]


def _mended(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_mended(item, names) for item in cast("Sequence[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema: Schema = {key: _mended(value, names) for key, value in cast("Schema", node).items()}
    if isinstance(reference := schema.get("$ref"), str):
        schema["$ref"] = PREFIX + names[reference.removeprefix(PREFIX)]
    if isinstance(schema.get("mapping"), dict):
        mapping: dict[str, str] = schema["mapping"]
        schema["mapping"] = {tag: PREFIX + names[at.removeprefix(PREFIX)] for tag, at in mapping.items()}
    if isinstance(schema.get("title"), str):
        del schema["title"]  # the name again, as it is in Python
    if isinstance(text := schema.get("description"), str):
        schema["description"] = " ".join(text.split())
    if isinstance(schema.get("enum"), list):
        schema = _enumeration(schema, schema["enum"])
    if "default" in schema and schema["default"] is None:
        del schema["default"]  # left out means the same; a generated client would send it
    if schema.get("format") == "binary":
        schema.pop("contentEncoding", None)  # bytes as they are, not base64
    return schema


def _enumeration(schema: Schema, values: list[Any]) -> Schema:
    """With the type of its values; one value alone is a constant, which clients take for a literal."""
    types = list(dict.fromkeys(_JSON_TYPES[type(value)] for value in values))
    rest = {key: value for key, value in schema.items() if key != "enum"}
    head: Schema = {"type": types[0]} if len(types) == 1 else {}
    return {**head, **({"const": values[0]} if len(values) == 1 else {"enum": values}), **rest}
