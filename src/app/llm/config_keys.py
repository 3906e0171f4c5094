"""The keys of LiteLLM proxy's configuration file, and what becomes of each here. docs/models_config.md is made from it.

https://docs.litellm.ai/docs/proxy/config_settings. A key that is not in the table is warned about by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Status = Literal["supported", "ignored"]


class Key(msgspec.Struct, frozen=True):
    """`meaning`: what it does here, or why it does nothing."""

    status: Status
    meaning: str


def _supported(meaning: str) -> Key:
    return Key("supported", meaning)


def _ignored(why: str) -> Key:
    return Key("ignored", why)


_LIMITS = "limits are set per tenant, user and key, not per deployment"
_RETRIES = "RETRY_MAX_ATTEMPTS says it, for all targets"
_BREAKER = "CIRCUIT_BREAKER_FAILURE_THRESHOLD and CIRCUIT_BREAKER_RESET_TIMEOUT say it"
_CACHE = "the cache plugin's own settings, and the request's `cache`, say it"
_CALLBACKS = "metrics, logs and traces are the observability plugin's"
_DATABASE = "DATABASE_URL and the accounts of WattOS"
_KEYS = "keys are WattOS's own: `POST /api/v1/keys`"

ENTRY: Mapping[str, Key] = {
    "model_name": _supported("The alias that clients name; `openai/*` and `*` stand for many."),
    "litellm_params": _supported("How the deployment is called."),
    "model_info": _supported("What is known of it."),
}
PARAMS: Mapping[str, Key] = {
    "model": _supported("`provider/model`; with a wildcard alias its `*` is filled in."),
    "api_base": _supported("The vendor's address, where it is not the usual one."),
    "base_url": _supported("The same."),
    "api_key": _supported("The vendor's key; unset: the vendor's usual variable."),
    "organization": _supported("OpenAI's."),
    "extra_headers": _supported("Sent with each call."),
    "extra_body": _supported("Fields of each request's body; they go before the client's."),
    "timeout": _supported("Seconds for a whole answer; without `stream_timeout` also for each silence of a stream."),
    "stream_timeout": _supported("Seconds until a stream's first token, and between two of its pieces."),
    "connect_timeout": _supported("WattOS: seconds for connecting (5)."),
    "first_token_timeout": _supported("WattOS: seconds until a stream's first token."),
    "silence_timeout": _supported("WattOS: seconds between two pieces of a stream."),
    "input_cost_per_token": _supported("Dollars; goes before litellm's price file."),
    "output_cost_per_token": _supported("Dollars."),
    "cache_read_input_token_cost": _supported("Dollars a token that the vendor had in its prompt cache."),
    "cache_creation_input_token_cost": _supported("Dollars a token that the vendor put there."),
    "output_cost_per_reasoning_token": _supported("Dollars."),
    "weight": _supported("Share of the calls among deployments of one alias, for `simple-shuffle`."),
    "rpm": _supported("As `weight`, where none is given; it limits nothing: " + _LIMITS + "."),
    "tpm": _supported("As `rpm`."),
    "order": _supported("Deployments with a lower number are asked before all others."),
    "max_retries": _ignored(_RETRIES),
    "num_retries": _ignored(_RETRIES),
    "max_parallel_requests": _supported(
        "Calls at once, streams until their end; 0: any number. Unset: LLM_MAX_CALLS_PER_TARGET. When all are taken"
        " the next target is asked."
    ),
    "max_budget": _ignored(_LIMITS),
    "budget_duration": _ignored(_LIMITS),
    "tags": _ignored("routing by tags is not done"),
    "cooldown_time": _ignored(_BREAKER),
}
"""Any other one is for litellm, which then calls the deployment: `aws_region_name`, `api_version`, `drop_params` …"""

INFO: Mapping[str, Key] = {
    "id": _supported("The target's id in headers, logs and metrics."),
    "mode": _supported("chat, completion, embedding or moderation; unset: as the price file has it, else chat."),
    "base_model": _supported("Whose price it is, where `model` is a name of your own, as at Azure."),
    "input_cost_per_token": _supported("As in `litellm_params`."),
    "output_cost_per_token": _supported("As in `litellm_params`."),
    "x_wattos_cache": _supported(
        "WattOS: `{mode: readwrite, ttl_s: 300, scope: tenant}`: whether answers of the alias are given again to equal"
        " requests (`off`, `read`, `write` or `readwrite`), for how long, and to whom (`tenant` or `user`). Of its"
        " deployments the first that says it counts; a request's own `cache` goes before it, but `mode: off` switches"
        " off what requests ask for, too. Unset: as requests ask. See [CACHE.md](CACHE.md#answers)."
    ),
    "x_wattos_hedge": _supported(
        "WattOS: true: when this deployment is slower than its p95, the next target is asked too, and who gives first"
        " wins; of 5 % of its calls at most (docs/RESILIENCE.md)."
    ),
    "x_wattos_seam": _supported("WattOS: another target may continue where this one breaks off."),
    "x_wattos_tenant_key": _supported(
        "WattOS: `never`, `allowed` or `required`: whether a tenant's own key of the vendor is used. Unset: `allowed`"
        " without an `api_base`, as the key is for the vendor; else `never`."
    ),
}
ROUTER: Mapping[str, Key] = {
    "routing_strategy": _supported(
        "simple-shuffle, least-busy, latency-based-routing, cost-based-routing, and usage-based-routing as"
        " simple-shuffle; unset: the order of the file, unless a deployment has `weight`, `rpm` or `tpm`."
    ),
    "fallbacks": _supported("Aliases to ask when all deployments of one failed."),
    "default_fallbacks": _supported("The same for aliases that have none of their own."),
    "context_window_fallbacks": _supported("Aliases to ask when a target says that the request is too long."),
    "content_policy_fallbacks": _supported("Aliases to ask when a target refuses the content."),
    "model_group_alias": _supported("More names for an alias."),
    "timeout": _supported("Default of the deployments' `timeout`."),
    "stream_timeout": _supported("Default of the deployments' `stream_timeout`."),
    "num_retries": _ignored(_RETRIES),
    "max_retries": _ignored(_RETRIES),
    "retry_after": _ignored(_RETRIES),
    "retry_policy": _ignored("docs/errors.md has the table of what is retried"),
    "model_group_retry_policy": _ignored("docs/errors.md has the table of what is retried"),
    "allowed_fails": _ignored(_BREAKER),
    "allowed_fails_policy": _ignored(_BREAKER),
    "cooldown_time": _ignored(_BREAKER),
    "disable_cooldowns": _ignored(_BREAKER),
    "enable_pre_call_checks": _ignored("a target that says the request is too long makes way for a longer one"),
    "routing_strategy_args": _ignored("latency is the p95 of the last 100 answers"),
    "max_fallbacks": _ignored("a chain has no target twice, and ends"),
    "redis_host": _ignored("VALKEY_URL says it"),
    "redis_port": _ignored("VALKEY_URL says it"),
    "redis_password": _ignored("VALKEY_URL says it"),
    "redis_url": _ignored("VALKEY_URL says it"),
    "cache_responses": _ignored(_CACHE),
    "cache_kwargs": _ignored(_CACHE),
    "caching_groups": _ignored(_CACHE),
    "enable_tag_filtering": _ignored("routing by tags is not done"),
    "provider_budget_config": _ignored("budgets are set per tenant, user, key and model"),
    "set_verbose": _ignored("LOG_LEVEL says it"),
    "debug_level": _ignored("LOG_LEVEL says it"),
}
SETTINGS: Mapping[str, Key] = {
    "fallbacks": ROUTER["fallbacks"],
    "default_fallbacks": ROUTER["default_fallbacks"],
    "context_window_fallbacks": ROUTER["context_window_fallbacks"],
    "content_policy_fallbacks": ROUTER["content_policy_fallbacks"],
    "request_timeout": _supported("Default of the deployments' `timeout`."),
    "num_retries": _ignored(_RETRIES),
    "allowed_fails": _ignored(_BREAKER),
    "drop_params": _ignored("set it in `litellm_params` of the deployments that need it"),
    "modify_params": _ignored("set it in `litellm_params` of the deployments that need it"),
    "cache": _ignored(_CACHE),
    "cache_params": _ignored(_CACHE),
    "callbacks": _ignored(_CALLBACKS),
    "success_callback": _ignored(_CALLBACKS),
    "failure_callback": _ignored(_CALLBACKS),
    "service_callback": _ignored(_CALLBACKS),
    "turn_off_message_logging": _ignored("prompts and answers are never logged"),
    "redact_user_api_key_info": _ignored("keys are never logged"),
    "set_verbose": _ignored("LOG_LEVEL says it"),
    "json_logs": _ignored("logs are JSON"),
    "telemetry": _ignored("nothing is sent anywhere"),
    "default_internal_user_params": _ignored(_KEYS),
    "max_budget": _ignored("budgets are set per tenant, user, key and model"),
    "budget_duration": _ignored("budgets are set per tenant, user, key and model"),
}
TOP: Mapping[str, Key] = {
    "model_list": _supported("The deployments."),
    "litellm_settings": _supported("See below."),
    "router_settings": _supported("See below; where both give a key, this one counts."),
    "general_settings": _ignored(f"{_KEYS}; {_DATABASE}"),
    "environment_variables": _ignored("give them in the environment"),
    "mcp_servers": _ignored("MCP is not spoken"),
    "guardrails": _ignored("guardrails are not run"),
    "credential_list": _ignored("name variables with `os.environ/NAME` instead"),
    "include": _ignored("one file holds all"),
}

TABLES: Mapping[str, Mapping[str, Key]] = {
    "": TOP,
    "model_list[]": ENTRY,
    "model_list[].litellm_params": PARAMS,
    "model_list[].model_info": INFO,
    "router_settings": ROUTER,
    "litellm_settings": SETTINGS,
}


def warnings_on(place: str, keys: Iterable[str], known: Mapping[str, Key], *, takes_any: bool = False) -> list[str]:
    """One line for each key that does nothing. `takes_any`: keys that are not in the table go to litellm."""
    found: list[str] = []
    for name in sorted(keys):
        at = f"{place}.{name}" if place else name
        key = known.get(name)
        if key is None and not takes_any:
            found.append(f"`{at}` is not read: there is no such key")
        elif key is not None and key.status == "ignored":
            found.append(f"`{at}` is not read: {key.meaning}")
    return found
