"""Which targets are called directly: those whose provider speaks OpenAI's wire, as the differential suite shows.

All others go through litellm. A configuration that names a parameter which only litellm knows goes through it, too:
nothing that an operator wrote is left undone. Names, addresses and the variables of keys come from litellm's registry,
read as data from its installed package.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from app.llm.model import TransportName
from app.llm.parameters import PARAMETERS

Preference = Literal["auto", "litellm"]

REGISTRY = ("llms", "openai_like", "providers.json")
"""In litellm's package: providers that it calls with OpenAI's wire unchanged, with address and the key's variable."""

READ = frozenset({"api_base", "base_url", "api_key", "organization", "extra_headers", "extra_body"})
"""Of `litellm_params`, beside OpenAI's own parameters: what the direct transport knows."""

IDLE = frozenset({"max_retries", "num_retries"})
"""Known, and without effect in either transport: retries are the guard's."""


class Provider(msgspec.Struct, frozen=True):
    """Where a provider answers and which variables of the environment say more. `base_url` empty: it must be given."""

    base_url: str
    api_key_env: str = ""
    api_base_env: str = ""


class _Registered(msgspec.Struct):
    base_url: str = ""
    api_key_env: str = ""
    api_base_env: str = ""
    param_mappings: dict[str, str] = {}
    special_handling: dict[str, Any] = {}
    constraints: dict[str, Any] = {}
    headers: dict[str, Any] = {}


OWN: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "hosted_vllm": Provider("", "HOSTED_VLLM_API_KEY", "HOSTED_VLLM_API_BASE"),
}
"""Beside the registry: the wire's own house, and the server that most run themselves."""

ANTHROPIC = Provider("https://api.anthropic.com", "ANTHROPIC_API_KEY", "ANTHROPIC_API_BASE")


@functools.cache
def direct_providers() -> Mapping[str, Provider]:
    """Those whose registry entry asks for nothing that the wire does not have."""
    spec = find_spec("litellm")  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        return OWN
    path = Path(spec.submodule_search_locations[0]).joinpath(*REGISTRY)
    registered = msgspec.json.decode(path.read_bytes(), type=dict[str, _Registered])
    plain = {
        name: Provider(entry.base_url, entry.api_key_env, entry.api_base_env)
        for name, entry in registered.items()
        if entry.base_url and not (entry.param_mappings or entry.special_handling or entry.constraints or entry.headers)
    }
    return {**plain, **OWN}


def resolve(
    provider_model: str,
    params: Mapping[str, Any],
    env: Mapping[str, str],
    prefer: Preference,
) -> tuple[TransportName, Mapping[str, Any]]:
    """How to call a target, and its parameters, for a direct one with address and key from the environment."""
    name = provider_model.partition("/")[0]
    known = READ | IDLE | PARAMETERS
    if name == "anthropic" and prefer == "auto" and params.keys() <= known | {"top_k", "thinking", "metadata"}:
        key = params.get("api_key") or env.get(ANTHROPIC.api_key_env)
        base = params.get("api_base") or env.get(ANTHROPIC.api_base_env)
        given = {"api_key": key, **({"api_base": base} if base else {})}
        return ("anthropic", {**params, **given}) if key else ("bridge", params)
    provider = direct_providers().get(name)
    if prefer == "litellm" or provider is None or "/" not in provider_model or not params.keys() <= known:
        return "bridge", params
    base = params.get("api_base") or params.get("base_url") or env.get(provider.api_base_env) or provider.base_url
    key = params.get("api_key") or env.get(provider.api_key_env)
    if not base or not str(base).startswith(("http://", "https://")):
        return "bridge", params
    if not key and name == "openai":
        return "bridge", params  # which says what is missing
    return "direct", {**params, "api_base": str(base).rstrip("/"), "api_key": key or ""}
