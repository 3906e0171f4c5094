"""What can be called: alias → chain of targets. Built once, from MODELS_CONFIG or the models on this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from app.errors import InvalidRequest, ModelNotFound
from app.llm.config import ROUTER_PARAMS, ModelEntry, ModelsConfig, read_models_config
from app.llm.model import Mode, Target, Timeouts, TransportName
from app.llm.prices import FREE, KnownModel, known_models, price_of
from app.llm.wires import Preference, resolve
from plugins.contract.errors import SettingsError
from plugins.contract.principal import Principal

LOCAL = "wattos-local"
EXTRACTIVE = "wattos-extractive"
EMBED = "wattos-embed"

OWN_MODELS: Mapping[str, tuple[str, TransportName, Mode]] = {
    "wattos/local": ("openai/wattos-local", "direct", "chat"),
    "wattos/extractive": ("wattos/extractive", "extractive", "chat"),
    "wattos/embed": ("wattos/embed", "embedder", "embedding"),
}
"""Models of this machine that a configuration may name as targets: provider model, transport, mode."""

_OWN_PARAMS = {"model", "input_cost_per_token", "output_cost_per_token", "timeout", "stream_timeout", *ROUTER_PARAMS}
_ID = re.compile(r"[\x21-\x7e]{1,200}")
"""Ids are sent in a header: visible ASCII."""


class Catalog:
    """Aliases in the order of the configuration. `warnings`: what the configuration says that is not read."""

    def __init__(
        self,
        deployments: Mapping[str, Sequence[Target]],
        fallbacks: Mapping[str, Sequence[str]],
        warnings: Sequence[str],
    ) -> None:
        self.warnings = tuple(warnings)
        self._chains = {alias: _chain(alias, deployments, fallbacks) for alias in deployments}

    def aliases(self) -> tuple[str, ...]:
        return tuple(self._chains)

    def chain(self, alias: str) -> tuple[Target, ...]:
        """The alias's own targets in order, then those of its fallbacks. Raises: ModelNotFound."""
        try:
            return self._chains[alias]
        except KeyError:
            raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those there are") from None

    def chain_for(self, principal: Principal, alias: str, mode: Mode) -> tuple[Target, ...]:
        """The chain for this caller and this kind of call. Raises: ModelNotFound, InvalidRequest."""
        if not principal.may_use(alias):
            raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those this key may use")
        targets = self.chain(alias)
        if any(target.mode != mode for target in targets):
            article = "an" if mode == "embedding" else "a"
            raise InvalidRequest(f"{alias!r} is not {article} {mode} model", param="model", code="wrong_model_kind")
        return targets

    def mode(self, alias: str) -> Mode:
        return self.chain(alias)[0].mode


def load_catalog(path: Path | None, env: Mapping[str, str], prefer: Preference = "auto") -> Catalog:
    """From the file at `path`, or the models on this machine alone. Raises: SettingsError."""
    if path is None:
        return embedded_catalog()
    config = read_models_config(path, env)
    if not config.model_list:
        own = embedded_catalog()
        return Catalog({alias: own.chain(alias) for alias in own.aliases()}, {}, config.warnings)
    deployments = _deployments(config, str(path), env, prefer)
    for alias in (EXTRACTIVE, EMBED):  # documents need these two whatever the configuration says
        deployments.setdefault(alias, [_own(alias)])
    fallbacks = _fallbacks(config, deployments, str(path))
    return Catalog(deployments, fallbacks, config.warnings)


def embedded_catalog() -> Catalog:
    """The models that need no key."""
    return Catalog({alias: [_own(alias)] for alias in (LOCAL, EXTRACTIVE, EMBED)}, {}, ())


def _own(alias: str) -> Target:
    provider_model, transport, mode = OWN_MODELS[alias.replace("-", "/", 1)]
    return Target(
        id=alias,
        alias=alias,
        provider_model=provider_model,
        transport=transport,
        mode=mode,
        price=FREE,
        is_local=alias == LOCAL,
    )


def _deployments(
    config: ModelsConfig, file: str, env: Mapping[str, str], prefer: Preference
) -> dict[str, list[Target]]:
    known = known_models(_price_name(entry) for entry in config.model_list if _needs_price_file(entry))
    deployments: dict[str, list[Target]] = {}
    ids: set[str] = set()
    for number, entry in enumerate(config.model_list):
        place = f"{file}, model_list[{number}]"
        model = entry.litellm_params.get("model")
        if not entry.model_name.strip():
            raise SettingsError(f"{place}: model_name is empty")
        if "*" in entry.model_name:
            raise SettingsError(f"{place}: wildcard names ({entry.model_name}) are not supported yet: name each model")
        if not isinstance(model, str) or not model.strip():
            raise SettingsError(f"{place}.litellm_params.model is missing: e.g. openai/gpt-4o-mini")
        _check_price(entry, place)
        target = _target(entry, model, known.get(_price_name(entry)), _id(entry, model, ids, place), place)
        if model not in OWN_MODELS:
            transport, params = resolve(model, target.params, env, prefer)
            target = msgspec.structs.replace(target, transport=transport, params=params)
        deployments.setdefault(entry.model_name, []).append(target)
    for alias, targets in deployments.items():
        if len({target.mode for target in targets}) > 1:
            raise SettingsError(f"{file}: {alias!r} mixes chat and embedding models: give them different names")
    return deployments


def _target(entry: ModelEntry, model: str, known: KnownModel | None, target_id: str, place: str) -> Target:
    own = OWN_MODELS.get(model)
    params: dict[str, Any] = {k: v for k, v in entry.litellm_params.items() if k not in _OWN_PARAMS}
    wanted = entry.model_info.mode or (known.mode if known else None)
    provider_model, transport, mode = own or (model, "bridge", "embedding" if wanted == "embedding" else "chat")
    return Target(
        id=target_id,
        alias=entry.model_name,
        provider_model=provider_model,
        transport=transport,
        mode=mode,
        params=params,
        timeouts=_timeouts(entry, place),
        price=_price(entry) or (FREE if own else known.price if known else None),
        is_local=model == "wattos/local",
    )


def _timeouts(entry: ModelEntry, place: str) -> Timeouts:
    """LiteLLM's names: `timeout` for a call and, without `stream_timeout`, for each silence of a stream; in seconds."""
    given: dict[str, float] = {}
    for name in ("timeout", "stream_timeout"):
        value = entry.litellm_params.get(name)
        if value is None:
            continue
        try:
            given[name] = float(value)
        except (TypeError, ValueError):
            given[name] = math.nan
        if not 0 < given[name] < math.inf:
            raise SettingsError(f"{place}.litellm_params.{name}: {value!r} is not a time in seconds: e.g. 30")
    default = Timeouts()
    total_s = given.get("timeout", default.total_s)
    silence_s = given.get("stream_timeout", given.get("timeout", default.silence_s))
    return Timeouts(total_s=total_s, first_token_s=silence_s, silence_s=silence_s)


def _needs_price_file(entry: ModelEntry) -> bool:
    """It also knows which models are for embedding."""
    return entry.litellm_params.get("model") not in OWN_MODELS and (_price(entry) is None or not entry.model_info.mode)


def _price_name(entry: ModelEntry) -> str:
    return entry.model_info.base_model or str(entry.litellm_params.get("model", ""))


def _price(entry: ModelEntry) -> Any:
    """A price that the configuration gives goes before the price file's."""
    info, params = entry.model_info, entry.litellm_params
    return price_of(
        params.get("input_cost_per_token", info.input_cost_per_token),
        params.get("output_cost_per_token", info.output_cost_per_token),
    )


def _check_price(entry: ModelEntry, place: str) -> None:
    """A price that cannot be read is not silently another one, or none."""
    for name in ("input_cost_per_token", "output_cost_per_token"):
        given = entry.litellm_params.get(name, getattr(entry.model_info, name))
        if given is not None and price_of(given, None) is None:
            raise SettingsError(f"{place}.{name}: {given!r} is not a price in dollars: e.g. 0.00000015")


def _id(entry: ModelEntry, model: str, taken: set[str], place: str) -> str:
    """`model_info.id`, else the provider's model, with `#2` for its second deployment. Own models are one each."""
    if model in OWN_MODELS and not entry.model_info.id:
        return model.replace("/", "-", 1)
    wanted = entry.model_info.id or model
    if not _ID.fullmatch(wanted) or wanted.replace("-", "/", 1) in OWN_MODELS:
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


def _fallbacks(config: ModelsConfig, known: Mapping[str, Sequence[Target]], file: str) -> dict[str, list[str]]:
    fallbacks: dict[str, list[str]] = {}
    for number, item in enumerate(config.litellm_settings.fallbacks):
        place = f"{file}, litellm_settings.fallbacks[{number}]"
        for alias, others in item.items():
            for name in (alias, *others):
                if name not in known:
                    raise SettingsError(f"{place}: {name!r} is no model_name of model_list ({_some(known)})")
                if known[name][0].mode != known[alias][0].mode:
                    raise SettingsError(f"{place}: {alias!r} and {name!r} are not both chat or both embedding models")
            fallbacks.setdefault(alias, []).extend(others)
    return fallbacks


def _chain(
    alias: str, deployments: Mapping[str, Sequence[Target]], fallbacks: Mapping[str, Sequence[str]]
) -> tuple[Target, ...]:
    """Own deployments, then each fallback's chain: its own ones and, before the next fallback, those that it falls
    back to, as at LiteLLM's proxy. No alias and no target comes twice, so circles end."""
    seen: set[str] = set()

    def walk(name: str) -> Iterator[Target]:
        if name not in seen:
            seen.add(name)
            yield from deployments[name]
            for other in fallbacks.get(name, ()):
                yield from walk(other)

    found: dict[str, Target] = {}
    for target in walk(alias):
        found.setdefault(target.id, target)
    return tuple(found.values())


def _some(names: Iterable[str]) -> str:
    return "there are " + ", ".join(sorted(names)[:5])
