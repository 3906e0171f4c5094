"""MODELS_CONFIG: what is read, and one line of error for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.llm.caching import NEVER, CacheWish
from app.llm.catalog import Catalog, load_catalog
from app.llm.config_keys import PARAMS, ROUTER, SETTINGS, TOP
from plugins.contract.errors import SettingsError

GOOD = "model_list: [{model_name: chat, litellm_params: {model: openai/gpt-4o-mini}}]\n"


def load(tmp_path: Path, text: str, **env: str) -> Catalog:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return load_catalog(path, env)


def entry(params: str = "{model: openai/a}", name: str = "chat", more: str = "") -> str:
    return f"  - {{model_name: {name}, litellm_params: {params}{more}}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("model_list:\n  - {model_name: [\n", "line 3: not valid YAML", id="broken YAML"),
        pytest.param("- a\n", "must hold a mapping", id="a list"),
        pytest.param("word", "must hold a mapping", id="a word"),
        pytest.param("model_list: {}", "$.model_list", id="model_list is a mapping"),
        pytest.param("model_list: [a, b]", "$.model_list[0]", id="entries are strings"),
        pytest.param("model_list: [[1]]", "$.model_list[0]", id="entries are lists"),
        pytest.param("model_list: [{model_name: a}]", "litellm_params", id="litellm_params is missing"),
        pytest.param("model_list: [{model_name: a, litellm_params: null}]", "litellm_params", id="… is null"),
        pytest.param("model_list: [{model_name: a, litellm_params: x}]", "litellm_params", id="… is a string"),
        pytest.param("model_list: [{model_name: 4, litellm_params: {model: a}}]", "model_name", id="name is a number"),
        pytest.param("model_list:\n" + entry(name="' '"), "model_list[0]: model_name is empty", id="name is empty"),
        pytest.param("model_list:\n" + entry(name="'a*b*'"), "one `*` at most", id="two stars"),
        pytest.param(
            GOOD + "router_settings: {routing_strategy: fastest}", "'fastest' is none of", id="unknown strategy"
        ),
        pytest.param(GOOD + "router_settings: {model_group_alias: {a: b}}", "'b', which is no", id="name of nothing"),
        pytest.param(GOOD + "router_settings: {model_group_alias: {chat: chat}}", "already", id="name that is taken"),
        pytest.param(GOOD + "router_settings: {timeout: 0}", "router_settings.timeout", id="no time at all"),
        pytest.param(GOOD + "litellm_settings: {default_fallbacks: [b]}", "'b' is no model_name", id="default"),
        pytest.param("model_list:\n" + entry("{model: openai/a, weight: -1}"), "below 0", id="weight below 0"),
        pytest.param("model_list:\n" + entry("{model: openai/a, order: b}"), "not a number", id="order is a word"),
        pytest.param("model_list:\n" + entry("{api_key: x}"), "litellm_params.model is missing", id="no model"),
        pytest.param("model_list:\n" + entry("{model: 4}"), "litellm_params.model is missing", id="model is a number"),
        pytest.param(
            "model_list:\n" + 2 * entry(more=", model_info: {id: x}"),
            "model_list[1].model_info.id: 'x' stands twice",
            id="duplicate id",
        ),
        pytest.param(
            "model_list:\n" + entry("{model: openai/a, api_key: os.environ/MISSING}"),
            "model_list[0].litellm_params.api_key: the variable MISSING is not set",
            id="missing variable",
        ),
        pytest.param(
            "model_list:\n" + entry("{model: openai/a, input_cost_per_token: cheap}"),
            "model_list[0].input_cost_per_token: 'cheap' is not a price",
            id="price is a word",
        ),
        pytest.param(
            "model_list:\n" + entry("{model: openai/a, output_cost_per_token: -1}"), "not a price", id="price below 0"
        ),
        pytest.param(
            "model_list:\n" + entry(more=", model_info: {mode: embedding}") + entry("{model: openai/b}"),
            "'chat' mixes chat and embedding models",
            id="two kinds under one name",
        ),
        pytest.param(
            GOOD + "litellm_settings: {fallbacks: [{chat: [nope]}]}", "'nope' is no model_name", id="fallback"
        ),
        pytest.param(GOOD + "litellm_settings: {fallbacks: [{nope: [chat]}]}", "'nope' is no model_name", id="… of"),
        pytest.param(GOOD + "litellm_settings: {fallbacks: {chat: [chat]}}", "fallbacks", id="fallbacks is a mapping"),
        pytest.param(GOOD + "litellm_settings: {fallbacks: [{chat: chat}]}", "fallbacks", id="a fallback is a word"),
        pytest.param(GOOD + "litellm_settings: 4", "litellm_settings", id="litellm_settings is a number"),
        pytest.param(
            GOOD + "litellm_settings: {fallbacks: [{chat: [wattos-embed]}]}", "not both chat", id="fallback of a kind"
        ),
        pytest.param(
            "model_list:\n" + entry(more=", model_info: {x_wattos_cache: {mode: always}}"), "always", id="cache mode"
        ),
        pytest.param(
            "model_list:\n" + entry(more=", model_info: {x_wattos_cache: {ttl_s: 0}}"),
            "x_wattos_cache",
            id="no age",
        ),
        pytest.param("a: &x [*x]\n", "holds itself", id="endless alias"),
        pytest.param("model_list:\n" + entry("{model: openai/a, timeout: soon}"), "timeout: 'soon'", id="no time"),
        pytest.param(
            "model_list:\n" + entry("{model: openai/a, stream_timeout: 0}"), "stream_timeout: 0", id="at once"
        ),
        pytest.param(
            "model_list:\n" + entry("{model: openai/größe}"), "litellm_params.model: 'openai/gr", id="id of ß"
        ),
        pytest.param(
            "model_list:\n" + entry(more=", model_info: {id: a b}"), "model_info.id: 'a b' cannot", id="id with a space"
        ),
        pytest.param(
            "model_list:\n" + entry(more=", model_info: {id: wattos-local}"), "cannot be an id", id="id of our own"
        ),
        pytest.param("a: " + "[" * 5000, "nested too deeply", id="too deep"),
        pytest.param("a: \0", "not valid YAML", id="a zero byte"),
        pytest.param("? {a: 1}\n: 2", "not valid YAML", id="a mapping as key"),
        pytest.param("a: !!python/object:os.system {}", "not valid YAML", id="a Python tag"),
    ],
)
def test_config_is_refused_in_one_line_when_wrong(tmp_path: Path, text: str, said: str) -> None:
    """A broken MODELS_CONFIG ends in a SettingsError: file, place, what is wrong. Never a traceback."""
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, text)
    assert said in refused.value.message
    assert "models.yaml" in refused.value.message
    assert "\n" not in refused.value.message


def test_config_is_refused_when_the_file_is_missing(tmp_path: Path) -> None:
    """The variable and the path are named."""
    with pytest.raises(SettingsError, match=r"MODELS_CONFIG=.*nowhere\.yaml: there is no such file"):
        load_catalog(tmp_path / "nowhere.yaml", {})


def test_config_is_refused_when_it_is_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and a directory, are errors too."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            load_catalog(path, {})


@pytest.mark.parametrize("text", ["", "model_list: []", "model_list:\nlitellm_settings:\n", "{}"])
def test_empty_model_list_means_the_models_on_this_machine(tmp_path: Path, text: str) -> None:
    """An empty `model_list`, or one whose lines are all commented out, leaves the embedded models."""
    assert load(tmp_path, text).aliases() == ("wattos-local", "wattos-extractive", "wattos-embed")


def test_unread_keys_are_warned_about_by_name(tmp_path: Path) -> None:
    """What this release does not read is said, at whatever depth."""
    text = (
        "router_settings: {redis_url: x}\ngeneral_settings: {a: 1}\nlitellm_settings: {drop_params: true}\nspare: 1\n"
        "model_list:\n" + entry("{model: openai/a, weight: 2, temperature: 0, max_retries: 3}", more=", rpm: 5")
    )
    assert load(tmp_path, text).warnings == (
        f"`general_settings` is not read: {TOP['general_settings'].meaning}",
        "`spare` is not read: there is no such key",
        f"`litellm_settings.drop_params` is not read: {SETTINGS['drop_params'].meaning}",
        f"`router_settings.redis_url` is not read: {ROUTER['redis_url'].meaning}",
        "`model_list[0].rpm` is not read: there is no such key",
        f"`model_list[0].litellm_params.max_retries` is not read: {PARAMS['max_retries'].meaning}",
    )


def test_variables_are_taken_from_the_environment_given(tmp_path: Path) -> None:
    """`os.environ/NAME` is replaced wherever a value may stand, from the mapping handed in."""
    catalog = load(tmp_path, "model_list:\n" + entry("{model: openai/a, api_key: os.environ/MY}"), MY="v")
    assert catalog.chain("chat")[0].params["api_key"] == "v"


def test_whether_answers_are_kept_is_said_of_an_alias(tmp_path: Path) -> None:
    """By the first of its deployments that says it; a bare `off`, which YAML reads as false, is off."""
    text = "model_list:\n"
    text += entry() + entry(more=", model_info: {x_wattos_cache: {mode: readwrite, ttl_s: 60}}")
    text += entry("{model: openai/b}", "plain", ", model_info: {x_wattos_cache: {mode: off}}")
    catalog = load(tmp_path, text)
    assert catalog.route("chat").cache == CacheWish(mode="readwrite", ttl_s=60)
    assert catalog.route("plain").cache == NEVER
    assert catalog.route("wattos-embed").cache is None
