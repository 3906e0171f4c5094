"""Which files are read, by the names of their columns.

Sources, looked up in November 2026:
- OpenAI, buckets of the Usage and Costs API: https://platform.openai.com/docs/api-reference/usage; answers of both:
  https://github.com/openai/openai-cookbook/blob/main/examples/completions_usage_api.ipynb. The CSV files of its
  dashboard (`completions_usage_….csv`, `cost_….csv`) have the same names, and numbers like `3.0`.
- OpenAI's older activity export had `n_context_tokens_total`.
- Anthropic, Usage and Cost in the Console: https://support.claude.com/en/articles/9534590; the Usage and Cost API's
  buckets: https://docs.claude.com/en/api/usage-cost-api. Its files do not count requests.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

_OPENAI_TIME = ("start_time", "start_time_iso")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Of a file. Several names for one thing: the first that is there. Tokens are sums of columns."""

    name: str
    provider: str | None = None
    needs: tuple[str, ...]
    """Columns that no other kind has together."""
    time: tuple[str, ...]
    """A day, a moment, or seconds since 1970."""
    model: tuple[str, ...]
    requests: tuple[str, ...] = ()
    input_tokens: tuple[str, ...] = ()
    output_tokens: tuple[str, ...] = ()
    cost_usd: tuple[str, ...] = ()
    is_summed: bool = False
    """`input_tokens` names parts, which are added."""
    is_line_item: bool = False
    """`model` is followed by what was billed of it: `gpt-4o-2024-08-06, cached input`."""


_CLAUDE_INPUT = (
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_write",
    "usage_input_tokens_cache_read",
)

KINDS = (
    Kind(
        name="OpenAI usage",
        provider="openai",
        needs=("num_model_requests", "input_tokens"),
        time=_OPENAI_TIME,
        model=("model",),
        requests=("num_model_requests",),
        input_tokens=("input_tokens",),
        output_tokens=("output_tokens",),
    ),
    Kind(
        name="OpenAI costs",
        provider="openai",
        needs=("amount_value", "line_item"),
        time=_OPENAI_TIME,
        model=("line_item",),
        cost_usd=("amount_value",),
        is_line_item=True,
    ),
    Kind(
        name="OpenAI activity",
        provider="openai",
        needs=("n_context_tokens_total", "n_generated_tokens_total"),
        time=("aggregation_timestamp", "timestamp", "usage_date"),
        model=("snapshot_id", "model"),
        requests=("n_requests",),
        input_tokens=("n_context_tokens_total",),
        output_tokens=("n_generated_tokens_total",),
    ),
    Kind(
        name="Anthropic usage",
        provider="anthropic",
        needs=("model_version", "usage_output_tokens"),
        time=("usage_date_utc",),
        model=("model_version",),
        input_tokens=_CLAUDE_INPUT,
        output_tokens=("usage_output_tokens",),
        is_summed=True,
    ),
    Kind(
        name="Anthropic usage report",
        provider="anthropic",
        needs=("uncached_input_tokens", "output_tokens"),
        time=("starting_at",),
        model=("model",),
        input_tokens=(
            "uncached_input_tokens",
            "cache_creation.ephemeral_5m_input_tokens",
            "cache_creation.ephemeral_1h_input_tokens",
            "cache_read_input_tokens",
        ),
        output_tokens=("output_tokens",),
        is_summed=True,
    ),
    Kind(
        name="Anthropic costs",
        provider="anthropic",
        needs=("usage_date_utc", "token_type", "cost_usd"),
        time=("usage_date_utc",),
        model=("model",),
        cost_usd=("cost_usd",),
    ),
    Kind(
        name="plain",
        needs=("model",),
        time=("date", "day", "time", "timestamp", "usage_date_utc"),
        model=("model",),
        requests=("requests",),
        input_tokens=("input_tokens",),
        output_tokens=("output_tokens",),
        cost_usd=("cost_usd",),
    ),
)


def kind_of(columns: Collection[str]) -> Kind | None:
    for kind in KINDS:
        told = (*kind.requests, *kind.input_tokens, *kind.output_tokens, *kind.cost_usd)
        if all(name in columns for name in kind.needs) and _any(kind.time, columns) and _any(told, columns):
            return kind
    return None


def _any(names: Collection[str], columns: Collection[str]) -> bool:
    return any(name in columns for name in names)
