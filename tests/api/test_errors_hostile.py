"""Input that is meant to break something: a clear refusal in the right shape, a request id, and never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from gateway import Gateway

NOBODY = "0" * 32
LEVEL_ERROR = 50
"""Of pino."""


@pytest.fixture(scope="module")
def client(shared_gateway: Gateway) -> Iterator[httpx.Client]:
    with shared_gateway.http(shared_gateway.server.make_key("hostile")) as made:
        yield made


@pytest.fixture(scope="module")
def store_id(client: httpx.Client) -> str:
    return str(client.post("/v1/vector_stores", json={}).raise_for_status().json()["id"])


def refusal(answer: httpx.Response, *statuses: int) -> dict[str, object]:
    """The error in OpenAI's shape."""
    assert answer.status_code in statuses, answer.text[:500]
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, object] = answer.json()["error"]
    assert error.keys() - {"attempts"} == {"message", "type", "code", "param"}
    return error


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/vector_stores", {"name": "a\0b"}),
        ("/v1/vector_stores", {"metadata": {"a\0b": "c"}}),
        ("/v1/vector_stores", {"metadata": {"a": "b\0"}}),
        ("/v1/vector_stores", {"something_new": ["\0"]}),
        ("/v1/vector_stores/{store}", {"name": "\0"}),
        ("/v1/vector_stores/{store}/files", {"file_id": "file_" + NOBODY, "attributes": {"a": "\0"}}),
        ("/v1/vector_stores/{store}/search", {"query": "a\0b"}),
        ("/v1/vector_stores/{store}/search", {"query": ["a", "\0"]}),
        ("/v1/embeddings", {"model": "wattos-embed", "input": "a\0b"}),
    ],
)
def test_nul_is_refused_before_the_database_refuses_it(
    client: httpx.Client, store_id: str, path: str, body: object
) -> None:
    """PostgreSQL has no NUL in its texts: 400 that says so, wherever it stands."""
    answer = client.post(path.format(store=store_id), json=body)
    assert refusal(answer, 400)["code"] == "invalid_character"


def test_nul_in_a_question_reaches_no_database(client: httpx.Client, store_id: str) -> None:
    """Messages are not stored, so they may hold it; a question over documents is only embedded."""
    body = {
        "model": "wattos-extractive",
        "messages": [{"role": "user", "content": "What\0?"}],
        "vector_store_ids": [store_id],
    }
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["annotations"] == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", '{"name": {"x": 1}}', "name"),
        ("", '{"name": "' + "x" * 257 + '"}', "name"),
        ("", '{"file_ids": "file_x"}', "file_ids"),
        ("", '{"file_ids": [["file_x"]]}', "file_ids[0]"),
        ("", '{"metadata": []}', "metadata"),
        ("", json.dumps({"metadata": {str(n): "x" for n in range(17)}}), "metadata"),
        ("", '{"metadata": {"' + "k" * 65 + '": "x"}}', "metadata"),
        ("", '{"metadata": {"k": "' + "v" * 513 + '"}}', "metadata[...]"),
        ("/{store}", '{"metadata": 5}', "metadata"),
        ("/{store}/files", "{}", "file_id"),
        ("/{store}/files", '{"file_id": 5}', "file_id"),
        ("/{store}/files", '{"file_id": "x", "attributes": {"k": null}}', "attributes[...]"),
        ("/{store}/files", '{"file_id": "x", "attributes": {"k": 1e400}}', "attributes[...]"),
        ("/{store}/files", '{"file_id": "x", "attributes": {"k": ' + "9" * 200_000 + "}}", "attributes[...]"),
        ("/{store}/search", "{}", "query"),
        ("/{store}/search", '{"query": null}', "query"),
        ("/{store}/search", '{"query": ["x", ""]}', "query[1]"),
        ("/{store}/search", '{"query": "x", "max_num_results": 0}', "max_num_results"),
        ("/{store}/search", '{"query": "x", "max_num_results": "many"}', "max_num_results"),
        ("/{store}/search", '{"query": "x", "filters": []}', "filters"),
        (
            "/{store}/search",
            '{"query": "x", "ranking_options": {"score_threshold": 2}}',
            "ranking_options.score_threshold",
        ),
    ],
)
def test_wrong_types_and_sizes_are_refused_by_field(
    client: httpx.Client, store_id: str, path: str, body: str, param: str
) -> None:
    """Numbers that no column holds among them."""
    answer = client.post("/v1/vector_stores" + path.format(store=store_id), content=body)
    assert str(refusal(answer, 400)["param"]).removesuffix("[...]") == param.removesuffix("[...]")


def test_filters_are_refused_rather_than_ignored(client: httpx.Client, store_id: str) -> None:
    """A search that looks at more than was asked for would show what should not be shown."""
    body = {"query": "x", "filters": {"type": "eq", "key": "lang", "value": "de"}}
    error = refusal(client.post(f"/v1/vector_stores/{store_id}/search", json=body), 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", "filters")


@pytest.mark.parametrize("base", ["/v1/files", "/v1/vector_stores", "/v1/vector_stores/{store}/files"])
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=", "limit"),
        ("limit=1e9", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("order=up", "order"),
        ("order=", "order"),
    ],
)
def test_lists_refuse_what_is_no_page(client: httpx.Client, store_id: str, base: str, query: str, param: str) -> None:
    """On every list, naming the parameter."""
    assert refusal(client.get(f"{base.format(store=store_id)}?{query}"), 400)["param"] == param


@pytest.mark.parametrize("id_", ["%00", "%ff", "%2e%2e", "file_", "file_x", "vs_x", "file_" + "g" * 32, "x" * 5000])
def test_malformed_ids_are_as_absent_as_unknown_ones(client: httpx.Client, id_: str) -> None:
    """The same answer as for an id that nobody has."""
    for base in ("/v1/files", "/v1/vector_stores"):
        nobody = ("file_" if base == "/v1/files" else "vs_") + NOBODY
        absent = refusal(client.get(f"{base}/{nobody}"), 404)
        assert refusal(client.get(f"{base}/{id_}"), 404) == absent


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/files/x/y/z", 404),
        ("GET", "/v1", 404),
        ("PATCH", "/v1/vector_stores", 405),
        ("TRACE", "/v1/files", 405),
        ("GET", "/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PATCH", "/api/v1/tenants", 405),
        ("POST", "/health", 405),
    ],
)
def test_what_is_not_there_looks_the_same_to_everybody(
    shared_gateway: Gateway, client: httpx.Client, method: str, path: str, status: int
) -> None:
    """With a key, with a wrong one and without: 404 and 405 tell nothing of who may do what."""
    url = shared_gateway.server.url + path
    answers = [
        client.request(method, path),
        httpx.request(method, url),
        httpx.request(method, url, headers={"authorization": "Bearer wrong"}),
    ]
    assert {answer.status_code for answer in answers} == {status}
    if path.startswith("/v1"):
        assert len({answer.text for answer in answers}) == 1
        refusal(answers[0], status)
    else:
        problems = [{**answer.json(), "instance": None} for answer in answers]
        assert problems[0] == problems[1] == problems[2]
        assert [answer.headers["content-type"] for answer in answers] == ["application/problem+json"] * 3
        assert [answer.json()["instance"] for answer in answers] == [a.headers["x-request-id"] for a in answers]


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abc-1.2_3", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("a,b", False),
        ("", False),
        ("ä".encode(), False),
    ],
)
def test_request_id_is_taken_over_when_well_formed(client: httpx.Client, given: str | bytes, is_kept: bool) -> None:
    """Else there is a fresh one: nobody writes into our log what he likes. On refusals and successes alike."""
    for path, status in (("/v1/models", 200), ("/v1/files/x", 404)):
        answer = client.get(path, headers={"x-request-id": given})  # type: ignore[dict-item]
        assert answer.status_code == status
        (told,) = answer.headers.get_list("x-request-id")
        assert (told == given) is is_kept
        assert told


def test_nothing_of_all_this_was_an_error_of_ours(shared_gateway: Gateway) -> None:
    """The log of everything above has no line at level error for the routes of files and vector stores."""
    lines = [json.loads(line) for line in shared_gateway.server.logged().splitlines()]
    own = [line for line in lines if "/v1/vector_stores" in str(line.get("req")) or "/v1/files" in str(line.get("req"))]
    assert own
    assert [line for line in own if line["level"] >= LEVEL_ERROR] == []
