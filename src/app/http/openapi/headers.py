"""Response headers, by name: what they say, and of what kind they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Header = Mapping[str, Any]


def _header(description: str, schema: Mapping[str, Any]) -> Header:
    return {"description": description, "schema": schema}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}

HEADERS: Mapping[str, Header] = {
    "x-request-id": _header(
        "The request's own, when well-formed, or a new one. Name it when you report an error.", _TEXT
    ),
    "x-wattos-target": _header("Who answered: the target of the alias' chain.", _TEXT),
    "x-wattos-attempts": _header("Calls to targets that this answer took.", _COUNT),
    "x-wattos-cost-nusd": _header(
        "Cost in nano-dollars. Absent on streams, unless from the cache, and where the price is not known.", _COUNT
    ),
    "x-wattos-cache": _header(
        "Where the answer came from.", {"type": "string", "enum": ["hit", "semantic", "miss", "off"]}
    ),
    "x-wattos-saved-nusd": _header(
        "What this answer from the cache cost, in nano-dollars, when a target gave it. Absent where that is not known.",
        _COUNT,
    ),
    "x-wattos-retrieval": _header(
        "How documents were searched: `text`, by words, while the embedder is away; `none` while the database is.",
        {"type": "string", "enum": ["vector", "text", "none"]},
    ),
    "x-wattos-degraded": _header(
        "What is less than usual: quotes stood in for the model, or documents were not searched by vectors.",
        {"type": "string", "enum": ["extractive", "retrieval"]},
    ),
    "idempotent-replayed": _header(
        "`true`: this is the answer to an earlier request with this `Idempotency-Key`; nothing was done.",
        {"type": "string", "enum": ["true"]},
    ),
    **{
        f"x-ratelimit-{name}-{unit}": _header(f"{text} Of several limits, the one with the least left.", schema)
        for unit in ("requests", "tokens")
        for name, text, schema in (
            ("limit", f"How many {unit} a minute the caller has. Absent without such a limit.", _COUNT),
            ("remaining", f"How many {unit} of these are left.", _COUNT),
            ("reset", "How long until all of them are, like `12s` or `1m3s`.", _TEXT),
        )
    },
    "retry-after": _header("Seconds to wait before the next try.", {"type": "integer", "minimum": 1}),
    "x-should-retry": _header("`false` where trying again is useless.", {"type": "string", "enum": ["true", "false"]}),
    "www-authenticate": _header("The scheme that is needed: `Bearer`.", _TEXT),
    "content-disposition": _header("Always `attachment`: a browser must not run what a tenant uploaded.", _TEXT),
}
"""They become components; answers refer to them."""

RATE = tuple(name for name in HEADERS if name.startswith("x-ratelimit-"))
"""Of every answer to a caller with such limits."""

TRAIL = ("x-wattos-target", "x-wattos-attempts", "x-wattos-cost-nusd")
"""Of every model call."""

GROUNDED = ("x-wattos-retrieval", "x-wattos-degraded")
"""Of answers over documents."""

CACHED = ("x-wattos-cache", "x-wattos-saved-nusd")
"""Of those whose answers may be given again."""


def references(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """`headers` of a response object. Raises: KeyError for one that is not defined here."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names if HEADERS[name]}
