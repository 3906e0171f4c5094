"""MODELS_CONFIG: the format of LiteLLM's proxy, as far as this release reads it (`config_keys` has the table).

Errors name file, place and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import yaml

from app.llm import config_keys
from app.llm.caching import CacheWish
from app.llm.config_keys import warnings_on
from app.llm.model import TenantKeyUse
from plugins.contract.errors import SettingsError

ENVIRONMENT = "os.environ/"


class ModelInfo(msgspec.Struct, kw_only=True):
    id: str | None = None
    mode: str | None = None
    base_model: str | None = None
    """Whose price it is, where `model` is a name of the operator's own, as at Azure."""
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    x_wattos_cache: CacheWish | None = None
    """Whether answers of the alias are given again: of its deployments the first that says it counts."""
    x_wattos_hedge: bool = False
    """The next target is asked too when this one is slower than its p95."""
    x_wattos_seam: bool = False
    """Another target may continue where this one breaks off."""
    x_wattos_tenant_key: TenantKeyUse | None = None
    """Whether a tenant's own key of the vendor is used. Unset: allowed at the vendor's own address alone."""


class ModelEntry(msgspec.Struct, kw_only=True):
    """One deployment: an alias and how to call what stands behind it."""

    model_name: str
    litellm_params: dict[str, Any]
    model_info: ModelInfo = msgspec.field(default_factory=ModelInfo)


Seconds = Annotated[float, msgspec.Meta(gt=0)]
ByAlias = list[dict[str, list[str]]]


class LiteLLMSettings(msgspec.Struct, kw_only=True):
    """Both sections may give fallbacks; `router_settings` goes first."""

    fallbacks: ByAlias = []
    default_fallbacks: list[str] = []
    context_window_fallbacks: ByAlias = []
    content_policy_fallbacks: ByAlias = []
    request_timeout: Seconds | None = None


class AliasOf(msgspec.Struct, kw_only=True):
    model: str
    hidden: bool = False


class RouterSettings(msgspec.Struct, kw_only=True):
    routing_strategy: str | None = None
    fallbacks: ByAlias = []
    default_fallbacks: list[str] = []
    context_window_fallbacks: ByAlias = []
    content_policy_fallbacks: ByAlias = []
    model_group_alias: dict[str, str | AliasOf] = {}
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None


class ModelsConfig(msgspec.Struct, kw_only=True):
    """The file, with `os.environ/NAME` already replaced. `warnings` names what was left out."""

    model_list: list[ModelEntry] = []
    litellm_settings: LiteLLMSettings = msgspec.field(default_factory=LiteLLMSettings)
    router_settings: RouterSettings = msgspec.field(default_factory=RouterSettings)
    warnings: tuple[str, ...] = ()


def read_models_config(path: Path, env: Mapping[str, str]) -> ModelsConfig:
    """Raises: SettingsError in one line: file, place, what is wrong, how to mend it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"MODELS_CONFIG={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"MODELS_CONFIG={path}: cannot be read ({type(exc).__name__})") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply") from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{place}: not valid YAML: {getattr(exc, 'problem', 'unreadable')}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: the file must hold a mapping with `model_list`")
    try:
        resolved = _resolve(document, env, str(path), "")
    except RecursionError:
        raise SettingsError(f"{path}: an alias (`*name`) holds itself") from None
    try:
        config = msgspec.convert(resolved, ModelsConfig, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"{path}: {exc}") from None
    config.warnings = tuple(_unread(resolved))
    return config


def _resolve(value: Any, env: Mapping[str, str], file: str, place: str) -> Any:
    """Replace each `os.environ/NAME`. Raises: SettingsError for a variable that is not set."""
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        # `model_list:` with nothing behind it (all lines commented out, say) is as good as no line at all.
        items = ((str(k), v) for k, v in mapping.items() if v is not None)
        return {k: _resolve(v, env, file, f"{place}.{k}" if place else k) for k, v in items}
    if isinstance(value, list):
        entries = cast("list[object]", value)
        return [_resolve(v, env, file, f"{place}[{n}]") for n, v in enumerate(entries)]
    if value is False and place.endswith("x_wattos_cache.mode"):
        return "off"  # YAML's own reading of the bare word
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        name = value.removeprefix(ENVIRONMENT)
        if name not in env:
            raise SettingsError(f"{file}, {place}: the variable {name} is not set in the environment")
        return env[name]
    return value


def _unread(document: Mapping[str, Any]) -> Iterator[str]:
    yield from warnings_on("", document, config_keys.TOP)
    for section in ("litellm_settings", "router_settings"):
        yield from warnings_on(section, document.get(section, {}), config_keys.TABLES[section])
    for number, entry in enumerate(document.get("model_list", [])):
        place = f"model_list[{number}]"
        yield from warnings_on(place, entry, config_keys.ENTRY)
        params, info = entry["litellm_params"], entry.get("model_info", {})
        yield from warnings_on(f"{place}.litellm_params", params, config_keys.PARAMS, takes_any=True)
        yield from warnings_on(f"{place}.model_info", info, config_keys.INFO, takes_any=True)
    strategy = document.get("router_settings", {}).get("routing_strategy")
    if str(strategy).startswith("usage-based-routing"):
        yield f"`router_settings.routing_strategy`: {strategy} is taken for simple-shuffle"
