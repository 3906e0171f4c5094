"""Aliases and their chains, and what a target costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import ModelNotFound
from app.llm.catalog import Catalog, load_catalog
from app.llm.model import Timeouts, Usage
from app.llm.prices import Price, known_models, price_of

CONFIG = """
model_list:
  - {model_name: fast, litellm_params: {model: openai/gpt-4o-mini, api_key: first, temperature: 0.1}}
  - {model_name: fast, litellm_params: {model: openai/gpt-4o-mini, api_key: second}}
  - {model_name: smart, litellm_params: {model: anthropic/claude-x, input_cost_per_token: 3e-6,
     output_cost_per_token: 1.5e-5}}
  - {model_name: vectors, litellm_params: {model: openai/text-embedding-3-small}}
  - {model_name: unknown, litellm_params: {model: openai/never-heard-of-it}}
litellm_settings: {fallbacks: [{fast: [smart]}, {smart: [fast]}]}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    path = tmp_path / "models.yaml"
    path.write_text(CONFIG)
    return load_catalog(path, {})


def test_chain_holds_own_targets_then_those_of_the_fallbacks(catalog: Catalog) -> None:
    """An alias's deployments come first, in order, then its fallbacks'. Aliases that fall back to each other end."""
    assert [t.id for t in catalog.chain("fast")] == ["openai/gpt-4o-mini", "openai/gpt-4o-mini#2", "anthropic/claude-x"]
    assert [t.id for t in catalog.chain("smart")] == ["anthropic/claude-x", *[t.id for t in catalog.chain("fast")[:2]]]


def load(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return load_catalog(path, {})


def ids(catalog: Catalog, alias: str) -> list[str]:
    return [target.id for target in catalog.chain(alias)]


def test_fallbacks_of_a_fallback_come_before_the_next_one(tmp_path: Path) -> None:
    """The order of LiteLLM's proxy; no target twice, however the fallbacks point at each other."""
    entries = "".join(f"  - {{model_name: {n}, litellm_params: {{model: openai/{n}}}}}\n" for n in "abcd")
    fallbacks = "litellm_settings: {fallbacks: [{a: [b, c]}, {b: [d, a]}, {d: [b, d]}]}"
    assert ids(load(tmp_path, f"model_list:\n{entries}{fallbacks}"), "a") == [f"openai/{n}" for n in "abdc"]


def test_a_model_of_this_machine_is_one_target_under_all_its_names(tmp_path: Path) -> None:
    """One server, one breaker, and never twice in a chain."""
    catalog = load(
        tmp_path,
        """
model_list:
  - {model_name: small, litellm_params: {model: wattos/local}}
  - {model_name: chat, litellm_params: {model: openai/x}}
  - {model_name: chat, litellm_params: {model: wattos/local}}
litellm_settings: {fallbacks: [{chat: [small]}]}
""",
    )
    assert ids(catalog, "chat") == ["openai/x", "wattos-local"]
    assert catalog.chain("small")[0].is_local
    assert catalog.aliases() == ("small", "chat", "wattos-extractive", "wattos-embed")


def test_timeouts_have_litellms_names(tmp_path: Path) -> None:
    """`timeout` for a call and the silences of a stream, `stream_timeout` for the latter alone; defaults otherwise."""
    catalog = load(
        tmp_path,
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/a, timeout: 120}}
  - {model_name: b, litellm_params: {model: openai/b, timeout: "120", stream_timeout: 5}}
  - {model_name: c, litellm_params: {model: openai/c}}
""",
    )
    a, b, c = (catalog.chain(alias)[0] for alias in "abc")
    assert (a.timeouts.total_s, a.timeouts.first_token_s, a.timeouts.silence_s) == (120, 120, 120)
    assert (b.timeouts.total_s, b.timeouts.first_token_s, b.timeouts.silence_s) == (120, 5, 5)
    assert (c.timeouts, c.params, b.params) == (Timeouts(), {}, {})


def test_each_target_keeps_its_own_parameters(catalog: Catalog) -> None:
    """Defect 2: a target has its own model name, key and parameters."""
    first, second, third = catalog.chain("fast")
    base = {"api_base": "https://api.openai.com/v1"}
    assert first.params == {"api_key": "first", "temperature": 0.1, **base}
    assert second.params == {"api_key": "second", **base}
    assert (third.provider_model, third.params) == ("anthropic/claude-x", {})


def test_alias_is_not_found_without_showing_all_of_it(catalog: Catalog) -> None:
    """A name of a megabyte does not come back in the message."""
    with pytest.raises(ModelNotFound) as refused:
        catalog.chain("x" * 100_000)
    assert len(refused.value.message) < 400


def test_target_never_shows_its_key(catalog: Catalog) -> None:
    """A target in a log line or a traceback shows no secret."""
    assert "first" not in repr(catalog.chain("fast")[0])


def test_mode_comes_from_the_price_file(catalog: Catalog) -> None:
    """An embedding model is known as one without being told."""
    assert (catalog.mode("vectors"), catalog.mode("fast")) == ("embedding", "chat")


def test_price_comes_from_the_configuration_or_the_price_file_or_is_unknown(catalog: Catalog) -> None:
    """Defect 3: dollars a token as written, the price file's otherwise, and no default for unknown models."""
    usage = Usage(input_tokens=1_000, output_tokens=10)
    mini, smart, unknown = (catalog.chain(alias)[0] for alias in ("fast", "smart", "unknown"))
    assert mini.cost_nusd(usage) == 150_000 + 6_000  # $0.15 and $0.60 a million tokens
    assert smart.cost_nusd(usage) == 3_000_000 + 150_000
    assert unknown.price is None
    assert unknown.cost_nusd(usage) is None
    assert mini.cost_nusd(None) is None


def test_cost_is_rounded_once() -> None:
    """Both kinds of tokens are added before half a nano-dollar is rounded up."""
    price = Price(input_nusd_per_mtok=400_000, output_nusd_per_mtok=100_000)
    assert price.cost_nusd(Usage(input_tokens=1, output_tokens=0)) == 0
    assert price.cost_nusd(Usage(input_tokens=1, output_tokens=1)) == 1


def test_cached_and_reasoning_tokens_have_prices_of_their_own() -> None:
    """They are part of input and output, and without a price of their own they cost what those cost."""
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=40, cache_write_tokens=10, reasoning_tokens=20)
    plain = Price(input_nusd_per_mtok=2_000_000, output_nusd_per_mtok=4_000_000)
    assert plain.cost_nusd(usage) == 100 * 2 + 50 * 4
    kinds = Price(
        input_nusd_per_mtok=2_000_000,
        output_nusd_per_mtok=4_000_000,
        cached_nusd_per_mtok=1_000_000,
        cache_write_nusd_per_mtok=3_000_000,
        reasoning_nusd_per_mtok=5_000_000,
    )
    assert kinds.cost_nusd(usage) == 50 * 2 + 40 * 1 + 10 * 3 + 30 * 4 + 20 * 5


@pytest.mark.parametrize(
    ("given", "nusd_per_mtok"),
    [(1.5e-07, 150_000_000), ("1e-7", 100_000_000), (0, 0), (2.5e-06, 2_500_000_000), (1e-15, 1)],
)
def test_price_is_meant_as_written(given: object, nusd_per_mtok: int) -> None:
    """Dollars a token become whole nano-dollars a million tokens, without binary fractions. YAML reads 1e-7 as text."""
    assert price_of(given, None) == Price(input_nusd_per_mtok=nusd_per_mtok, output_nusd_per_mtok=0)


@pytest.mark.parametrize("given", [None, True, "cheap", -1, float("nan"), float("inf"), [], "1e999999999"])
def test_price_is_unknown_when_it_is_no_number(given: object) -> None:
    """What is no price is none."""
    assert price_of(given, None) is None


def test_price_file_knows_models_with_and_without_their_provider() -> None:
    """`openai/gpt-4o` stands in the file as `gpt-4o`."""
    assert known_models(["openai/gpt-4o", "gpt-4o", "no/such"]).keys() == {"openai/gpt-4o", "gpt-4o"}


def test_price_of_one_vendor_is_not_anothers() -> None:
    """Defect 3: a model of the same name elsewhere has a price of its own, or none that is known."""
    assert known_models(["hosted_vllm/gpt-4o", "groq/gpt-4o", "nobody/gpt-4o"]) == {}


def test_base_model_names_the_price_where_the_model_is_a_name_of_the_operators_own(tmp_path: Path) -> None:
    """Deployments at Azure are called what one likes."""
    entry = "model_list: [{model_name: a, litellm_params: {model: azure/mine}, model_info: {base_model: %s}}]"
    assert load(tmp_path, entry % "azure/gpt-4o-mini").chain("a")[0].price is not None
    assert load(tmp_path, entry % "nonsense").chain("a")[0].price is None


def test_catalog_does_not_import_litellm(tmp_path: Path) -> None:
    """Defect 15: prices are read as data; 2 s and 190 MB are spent on first need only."""
    path = tmp_path / "models.yaml"
    path.write_text(CONFIG)
    script = (
        "import sys, pathlib; from app.llm.catalog import load_catalog; import app.llm.transports.bridge;"
        f"assert load_catalog(pathlib.Path({str(path)!r}), {{}}).chain('fast')[0].price;"
        "assert 'litellm' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
