"""Two answers of the same vendor, compared field by field; and all that two transports may differ in, with reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

ABSENT = "absent"


class Difference(msgspec.Struct, frozen=True):
    """`path`: where; `direct` and `bridged`: what each has there, `...` for anything."""

    path: str
    direct: Any = ...
    bridged: Any = ...
    why: str = ""


DIFFERENCES = (
    Difference(r".*", None, ABSENT, "litellm leaves out what is null, in requests and answers: it means the same"),
    Difference(r".*\.(logprobs|refusal|content)", ABSENT, None, "OpenAI's wire has it always: bridge adds the null"),
    Difference(
        r"\.body\.tools\[\d\]\.function\.strict",
        True,
        ABSENT,
        "litellm takes it out for hosted_vllm alone; vLLM's models allow fields that they do not know",
    ),
    Difference(r"\.status", 408, None, "litellm does not tell a vendor's 408 from its own clock"),
    Difference(r"\.status", 504, None, "the same"),
)
"""All that the two may differ in, and why that is right."""


def differing(direct: Any, bridged: Any, at: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two values differ: path → what each has there."""
    if isinstance(direct, dict) and isinstance(bridged, dict):
        names = [*direct, *(name for name in bridged if name not in direct)]
        pairs = [(f"{at}.{name}", direct.get(name, ABSENT), bridged.get(name, ABSENT)) for name in names]
    elif isinstance(direct, list) and isinstance(bridged, list) and len(direct) == len(bridged):
        pairs = [(f"{at}[{n}]", one, other) for n, (one, other) in enumerate(zip(direct, bridged, strict=True))]
    else:
        return {} if direct == bridged and type(direct) is type(bridged) else {at: (direct, bridged)}
    found = {path: both for pair in pairs for path, both in differing(pair[1], pair[2], pair[0]).items()}
    return {path: both for path, both in found.items() if not _is_documented(path, *both)}


def _is_documented(path: str, direct: Any, bridged: Any) -> bool:
    return any(
        re.fullmatch(one.path, path) and one.direct in {..., _key(direct)} and one.bridged in {..., _key(bridged)}
        for one in DIFFERENCES
    )


def _key(value: Any) -> Any:
    """A value that can be looked for in a set."""
    return value if isinstance(value, int | str | None) else repr(value)


class Assembled(msgspec.Struct):
    """A stream put together, as a client does: by choice, tools by their index."""

    choices: dict[int, dict[str, Any]] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    usage: dict[str, Any] | None = None
    n_usage: int = 0
    envelope: dict[str, Any] = {}
    """What each chunk says beside its choices."""

    @property
    def plain(self) -> dict[str, Any]:
        return {"choices": self.choices, "calls": self.calls, "usage": self.usage, "envelope": self.envelope}


def assembled(bodies: list[dict[str, Any]]) -> Assembled:
    whole = Assembled()
    for body in bodies:
        if not body["choices"]:
            whole.n_usage += 1
            whole.usage = body["usage"]
            continue
        whole.envelope |= {name: body[name] for name in body.keys() - {"choices", "usage"}}
        for choice in body["choices"]:
            made = whole.choices.setdefault(choice["index"], {})
            for name, value in without_null({**choice, **choice.get("delta", {})}).items():
                if name == "tool_calls":
                    for piece in value:
                        _add(whole.calls.setdefault((choice["index"], piece["index"]), {}), piece)
                elif name not in {"delta", "index"}:
                    _add(made, {name: value})
    return whole


def _add(made: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Texts and lists grow, numbers and names stay, objects are gone into."""
    for name, value in piece.items():
        if isinstance(value, dict):
            _add(made.setdefault(name, {}), value)
        elif isinstance(value, str | list) and name not in {"role", "id", "type", "finish_reason"}:
            made[name] = made.get(name, type(value)()) + value
        else:
            made[name] = value


def without_null(value: Any) -> Any:
    """Nulls in a delta add nothing to what a client puts together."""
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value
