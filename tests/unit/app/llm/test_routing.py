"""Whom a request asks, in which order, by the configuration's strategy, fallbacks and wildcards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from app.errors import InvalidRequest, ModelNotFound
from app.llm.catalog import load_catalog
from app.llm.model import Mode, Usage
from app.llm.routing import Router, Wishes
from plugins.contract.principal import Principal, TenantId

ANYONE = Principal(tenant_id=TenantId(uuid4()))


def router_of(tmp_path: Path, entries: Sequence[str], rest: str = "") -> Router:
    """`entries`: `alias: parameters`, each with a model of its own if it names none."""
    lines: list[str] = []
    for number, entry in enumerate(entries):
        alias, _, params = entry.partition(": ")
        given = params or f"model: openai/{alias}-{number}"
        lines.append(f"  - {{model_name: '{alias}', litellm_params: {{{given}, api_key: k}}}}")
    path = tmp_path / "models.yaml"
    path.write_text("model_list:\n" + "\n".join(lines) + "\n" + rest)
    return Router(load_catalog(path, {}), uniform=random.Random(7).random)


def asked(router: Router, alias: str, wishes: Wishes | None = None, mode: Mode = "chat") -> list[str]:
    plan = router.plan(ANYONE, alias, mode, wishes or Wishes())
    return [target.provider_model.removeprefix("openai/") for target in plan.targets]


def deployments(**params: str) -> list[str]:
    return [f"a: model: openai/{name}{', ' + more if more else ''}" for name, more in params.items()]


def strategy(name: str) -> str:
    return f"router_settings: {{routing_strategy: {name}}}"


def first_of(router: Router, n: int = 2000) -> Counter[str]:
    return Counter(asked(router, "a")[0] for _ in range(n))


def test_order_of_the_file_counts_where_nobody_says_otherwise(tmp_path: Path) -> None:
    """Ours, other than LiteLLM's: the first deployment is the one that the operator put first."""
    router = router_of(tmp_path, deployments(x="", y="", z=""))
    assert {tuple(asked(router, "a")) for _ in range(20)} == {("x", "y", "z")}


def test_lower_order_goes_before_everything(tmp_path: Path) -> None:
    """A group of deployments that only stands by, whatever the strategy."""
    router = router_of(tmp_path, deployments(spare="order: 2", x="order: 1", y="order: 1"), strategy("simple-shuffle"))
    assert {(plan[-1], len(plan)) for plan in (asked(router, "a") for _ in range(50))} == {("spare", 3)}
    assert set(first_of(router, 200)) == {"x", "y"}


@pytest.mark.parametrize("rest", ["", "router_settings: {routing_strategy: usage-based-routing-v2}"])
def test_weights_share_the_calls(tmp_path: Path, rest: str) -> None:
    """Nine to one; nothing to a weight of 0, which is asked last; each plan has all of them."""
    router = router_of(tmp_path, deployments(x="weight: 9", y="weight: 1", off="weight: 0"), rest)
    found = first_of(router)
    assert set(found) == {"x", "y"}
    assert 1700 < found["x"] < 1900
    assert {plan[-1] for plan in (asked(router, "a") for _ in range(50))} == {"off"}


def test_shuffle_without_weights_is_even(tmp_path: Path) -> None:
    """LiteLLM's default, by its name."""
    found = first_of(router_of(tmp_path, deployments(x="", y=""), strategy("simple-shuffle")))
    assert 900 < found["x"] < 1100


def test_least_busy_goes_to_who_has_the_fewest_calls(tmp_path: Path) -> None:
    """As of now; among equals by chance."""
    router = router_of(tmp_path, deployments(x="", y=""), strategy("least-busy"))
    router.traffic.begin("openai/x")
    assert set(first_of(router, 50)) == {"y"}
    router.traffic.begin("openai/y")
    router.traffic.begin("openai/y")
    assert set(first_of(router, 50)) == {"x"}
    router.traffic.end("openai/x", None)
    router.traffic.end("openai/y", 5.0)
    router.traffic.end("openai/y", 5.0)
    assert set(first_of(router, 50)) == {"x", "y"}


def test_lowest_latency_follows_the_moving_p95(tmp_path: Path) -> None:
    """One that is not known yet is tried; of the last 100 answers only the slowest five do not count."""
    router = router_of(tmp_path, deployments(x="", y=""), strategy("latency-based-routing"))

    def answer(target: str, ms: float, times: int) -> None:
        for _ in range(times):
            router.traffic.begin(target)
            router.traffic.end(target, ms)

    answer("openai/x", 100, 100)
    assert set(first_of(router, 20)) == {"y"}
    answer("openai/y", 50, 95)
    answer("openai/y", 9_000, 5)
    assert set(first_of(router, 20)) == {"y"}
    answer("openai/y", 9_000, 1)
    assert set(first_of(router, 20)) == {"x"}
    answer("openai/y", 50, 100)
    assert set(first_of(router, 20)) == {"y"}


def test_lowest_cost_goes_first_and_unknown_prices_last(tmp_path: Path) -> None:
    """By input and output price together."""
    priced = "input_cost_per_token: {}e-6, output_cost_per_token: {}e-6"
    entries = deployments(unknown="", dear=priced.format(1, 9), cheap=priced.format(5, 1))
    router = router_of(tmp_path, entries, strategy("cost-based-routing"))
    assert asked(router, "a") == ["cheap", "dear", "unknown"]


def test_request_may_choose_its_fallbacks_or_none(tmp_path: Path) -> None:
    """They stand in for the configured ones; an alias that is not the caller's does not exist for it."""
    rest = "litellm_settings: {fallbacks: [{a: [b]}], context_window_fallbacks: [{a: [c]}]}"
    router = router_of(tmp_path, ["a", "b", "c"], rest)
    assert asked(router, "a") == ["a-0", "b-1"]
    assert asked(router, "a", Wishes(fallbacks=("c",))) == ["a-0", "c-2"]
    assert asked(router, "a", Wishes(fallbacks=())) == ["a-0"]
    alone = router.plan(ANYONE, "a", "chat", Wishes(disable_fallbacks=True))
    assert (len(alone.targets), alone.on_context) == (1, ())
    limited = Principal(tenant_id=ANYONE.tenant_id, models=frozenset({"a"}))
    with pytest.raises(ModelNotFound, match="fallbacks"):
        router.plan(limited, "a", "chat", Wishes(fallbacks=("b",)))
    with pytest.raises(InvalidRequest):
        router.plan(ANYONE, "a", "chat", Wishes(fallbacks=("wattos-embed",)))


def test_fallbacks_for_need_stand_apart(tmp_path: Path) -> None:
    """Asked only when a target says that the request is too long, or refuses what it says."""
    rest = "router_settings: {context_window_fallbacks: [{a: [b]}], content_policy_fallbacks: [{a: [c]}]}"
    plan = router_of(tmp_path, ["a", "b", "c"], rest).plan(ANYONE, "a", "chat")
    named = [[target.id for target in part] for part in (plan.targets, plan.on_context, plan.on_policy)]
    assert named == [["openai/a-0"], ["openai/b-1"], ["openai/c-2"]]


def test_default_fallbacks_are_for_those_without_their_own(tmp_path: Path) -> None:
    """And for models of their kind alone."""
    rest = "litellm_settings: {default_fallbacks: [c], fallbacks: [{a: [b]}]}"
    router = router_of(tmp_path, ["a", "b", "c"], rest)
    assert [asked(router, alias) for alias in "abc"] == [["a-0", "b-1"], ["b-1", "c-2"], ["c-2"]]
    assert len(router.plan(ANYONE, "wattos-embed", "embedding").targets) == 1


def test_alias_may_have_more_names(tmp_path: Path) -> None:
    """With its fallbacks; a hidden one is not listed."""
    rest = "router_settings: {model_group_alias: {gpt-4: a, old: {model: a, hidden: true}}, fallbacks: [{a: [b]}]}"
    router = router_of(tmp_path, ["a", "b"], rest)
    assert asked(router, "gpt-4") == asked(router, "old") == ["a-0", "b-1"]
    assert "gpt-4" in router.catalog.aliases()
    assert "old" not in router.catalog.aliases()


def test_wildcard_makes_targets_of_what_is_asked_for(tmp_path: Path) -> None:
    """The star's text goes into the model's name; exact names win, then the longest text before the star."""
    entries = ["openai/gpt-4o: model: openai/exact", "openai/*: model: openai/*", "openai/o*: model: openai/o-*"]
    router = router_of(tmp_path, [*entries, "*: model: anthropic/*"])
    assert asked(router, "openai/gpt-4o") == ["exact"]
    assert asked(router, "openai/gpt-4o-mini") == ["gpt-4o-mini"]
    assert asked(router, "openai/o3") == ["o-3"]
    (other,) = router.plan(ANYONE, "claude-sonnet-4-5", "chat").targets
    assert (other.id, other.alias, other.transport) == ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5", "anthropic")
    assert (
        router.plan(ANYONE, "openai/gpt-4o-mini", "chat")
        .targets[0]
        .cost_nusd(Usage(input_tokens=1_000, output_tokens=10))
    )
    assert {"openai/*", "*"} <= set(router.catalog.aliases())
    assert {plan.targets[0].known_as for name in "xyz" if (plan := router.plan(ANYONE, f"openai/{name}", "chat"))} == {
        "openai/*"
    }


@pytest.mark.parametrize("name", ["m" * 10_000, "openai/", "a b", "ä", "openai/\n", "wattos-nothing" * 30])
def test_made_up_names_find_nothing(tmp_path: Path, name: str) -> None:
    """Clients choose them: they must be able to stand in a header, and not be endless."""
    router = router_of(tmp_path, ["openai/*: model: openai/*"])
    with pytest.raises(ModelNotFound) as refused:
        router.plan(ANYONE, name, "chat")
    assert len(refused.value.message) < 400


def test_kinds_of_models_serve_kinds_of_requests(tmp_path: Path) -> None:
    """A chat model answers a completion, too; no other kind crosses over."""
    path = tmp_path / "models.yaml"
    entry = "  - {{model_name: {0}, litellm_params: {{model: openai/x-{0}}}, model_info: {{mode: {0}}}}}\n"
    path.write_text(
        "model_list:\n" + "".join(entry.format(m) for m in ("chat", "completion", "embedding", "moderation"))
    )
    router = Router(load_catalog(path, {}))
    kinds: tuple[Mode, ...] = ("chat", "completion", "embedding", "moderation")
    for alias in kinds:
        for mode in kinds:
            if alias == mode or (alias, mode) == ("chat", "completion"):
                assert router.plan(ANYONE, alias, mode).targets
            else:
                with pytest.raises(InvalidRequest):
                    router.plan(ANYONE, alias, mode)


def test_new_catalog_is_in_force_at_once(tmp_path: Path) -> None:
    """And what was known of targets that are gone is forgotten."""
    router = router_of(tmp_path, ["a"])
    router.traffic.begin("openai/a-0")
    router.traffic.end("openai/a-0", 10)
    before = router.plan(ANYONE, "a", "chat")
    router.replace(router_of(tmp_path, ["b"]).catalog)
    assert before.targets[0].id == "openai/a-0"
    assert router.traffic.p95_ms("openai/a-0") is None
    with pytest.raises(ModelNotFound):
        router.plan(ANYONE, "a", "chat")
