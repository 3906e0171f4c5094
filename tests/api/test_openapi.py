"""The document's promises, held against the document: what generated clients trip over must not come back."""

from __future__ import annotations

from typing import Any

import schemathesis
from jsonschema import Draft202012Validator

from app.http.error_table import TABLE
from openapi_document import nodes, operation, operations, the_document, validator

OPERATION_IDS = [
    "createChatCompletion",
    "createCompletion",
    "createModeration",
    "createMessage",
    "countMessageTokens",
    "createEmbedding",
    "createBudget",
    "listBudgets",
    "getBudget",
    "updateBudget",
    "deleteBudget",
    "listModels",
    "retrieveModel",
    "reloadModels",
    "createFile",
    "listFiles",
    "retrieveFile",
    "deleteFile",
    "downloadFile",
    "createVectorStore",
    "listVectorStores",
    "getVectorStore",
    "modifyVectorStore",
    "deleteVectorStore",
    "createVectorStoreFile",
    "listVectorStoreFiles",
    "getVectorStoreFile",
    "deleteVectorStoreFile",
    "retrieveVectorStoreFileContent",
    "searchVectorStore",
    "createTenant",
    "listTenants",
    "getTenant",
    "createKey",
    "listKeys",
    "getKey",
    "revokeKey",
    "createUser",
    "listUsers",
    "getUser",
    "updateUser",
    "deleteUser",
    "signIn",
    "refreshTokens",
    "signOut",
    "changePassword",
    "getMe",
    "putProviderKey",
    "listProviderKeys",
    "deleteProviderKey",
    "putLimit",
    "listLimits",
    "listAuditEvents",
    "listUsage",
    "summarizeUsage",
    "listProviders",
    "resetProvider",
    "setProviderBreaker",
    "exportUsage",
    "getPrices",
    "setPrice",
    "listPriceVersions",
    "getLiveness",
    "getReadiness",
    "getHealth",
    "getMetrics",
    "listPlugins",
]
"""Names of functions in programs that were generated from the document: to change one is to break them."""

PUBLIC = {"signIn", "refreshTokens", "getLiveness", "getReadiness", "getHealth", "getMetrics", "listPlugins"}


def test_operation_ids_are_what_they_were() -> None:
    """Stable and unique: a change shows as a change of this list."""
    found = [one["operationId"] for _, _, one in operations(the_document())]
    assert sorted(found) == sorted(OPERATION_IDS)


def test_the_document_is_valid_openapi_3_1() -> None:
    """By OpenAPI's own schema, each schema by that of JSON Schema 2020-12; every reference leads somewhere."""
    found = the_document()
    assert found["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(found).validate()
    for schema in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for at, node in nodes(found):
        if isinstance(reference := node.get("$ref"), str):
            part: Any = found
            for key in reference.removeprefix("#/").split("/"):
                assert key in part, f"{at} → {reference}"
                part = part[key]


def test_every_operation_says_what_it_is() -> None:
    """A tag that is described, a summary, and a description of every parameter and header."""
    found = the_document()
    tags = {tag["name"] for tag in found["tags"] if tag["description"]}
    for path, method, one in operations(found):
        assert one["tags"], (method, path)
        assert set(one["tags"]) <= tags
        assert one["summary"]
        assert all(parameter.get("description") for parameter in one.get("parameters", ())), (method, path)


def test_unions_can_be_told_apart() -> None:
    """Members of different JSON types, or a discriminator that maps to each: no free-form unions."""
    found = the_document()
    schemas = found["components"]["schemas"]
    n_tagged = 0
    for at, node in nodes(found):
        assert "oneOf" not in node, at
        members = node.get("anyOf")
        if not isinstance(members, list):
            continue
        if "discriminator" in node:
            tag = node["discriminator"]["propertyName"]
            for value, reference in node["discriminator"]["mapping"].items():
                assert {"$ref": reference} in members, at
                assert schemas[reference.rpartition("/")[2]]["properties"][tag]["const"] == value, at
                assert tag in schemas[reference.rpartition("/")[2]]["required"], at
            assert len(members) == len(node["discriminator"]["mapping"])
            n_tagged += 1
            continue
        types = [
            schemas[member["$ref"].rpartition("/")[2]]["type"] if "$ref" in member else member.get("type", "object")
            for member in members
        ]
        assert len(set(types)) == len(types), f"{at}: {types}"
    assert n_tagged >= 4  # roles, parts of content twice, response formats


def test_bounds_stay_inside_optional_fields() -> None:
    """Litestar loses them there."""
    schemas = the_document()["components"]["schemas"]
    models = schemas["KeyCreate"]["properties"]["models"]["anyOf"]
    assert [member.get("maxItems") for member in models] == [1000, None]
    assert schemas["EmbeddingCreate"]["properties"]["dimensions"]["anyOf"][0]["minimum"] == 1
    assert schemas["StoreCreate"]["properties"]["metadata"]["anyOf"][0]["maxProperties"] == 16


def test_pages_are_bounded() -> None:
    """`limit` of every list has a least and a greatest value; no parameter can be null."""
    for path, method, one in operations(the_document()):
        for parameter in one.get("parameters", ()):
            assert "anyOf" not in parameter["schema"], (method, path)
            if parameter["name"] == "limit":
                assert parameter["schema"]["minimum"] == 1
                assert parameter["schema"]["maximum"] in {100, 10_000}
        if one["operationId"].startswith("list") and path not in {"/v1/models", "/plugins"}:
            assert {"limit", "after"} <= {parameter["name"] for parameter in one["parameters"]}


def test_errors_have_the_shape_of_their_path() -> None:
    """OpenAI's under /v1, RFC 9457's elsewhere; each status with its codes and the headers that go with them."""
    for path, method, one in operations(the_document()):
        statuses = {int(status) for status in one["responses"]}
        for status, answer in one["responses"].items():
            if status.startswith("2") or (one["operationId"], status) == ("getReadiness", "503"):
                continue
            media_type, name = ("application/json", "OpenAIError") if path.startswith("/v1/") else ("", "Problem")
            if path.startswith("/v1/messages"):
                name = "AnthropicError"
            content = {media_type or "application/problem+json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
            assert answer["content"] == content, (method, path, status)
            codes = [part.partition("`")[0] for part in answer["description"].split("`")[1::2]]
            assert any(TABLE[code].status == int(status) for code in codes if code in TABLE), (method, path, status)
            assert "x-request-id" in answer["headers"]
            retryable = {"408", "429", "502", "503", "504"}
            if "`idempotency_in_progress`" in answer["description"]:
                retryable.add("409")
            assert ("retry-after" in answer["headers"]) == (status in retryable)
        assert 500 in statuses
        if one["operationId"] not in PUBLIC:
            assert {401, 503} <= statuses, (method, path)
        if "requestBody" in one:
            assert {400, 413} <= statuses, (method, path)
        if "{" in path:
            assert 404 in statuses, (method, path)


def test_security_is_a_bearer_key_but_for_public_operations() -> None:
    """The whole document needs one; who needs none says so."""
    found = the_document()
    assert found["security"] == [{"bearer": []}]
    assert found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {one["operationId"] for _, _, one in operations(found) if one.get("security") == []} == PUBLIC


def test_every_post_of_a_known_caller_takes_an_idempotency_key() -> None:
    """As a header that may be left out, with its errors and the header of what is answered again."""
    for path, method, one in operations(the_document()):
        names = {parameter["name"]: parameter for parameter in one.get("parameters", ())}
        takes_one = method == "post" and one["operationId"] not in PUBLIC
        assert ("Idempotency-Key" in names) is takes_one, (method, path)
        if takes_one:
            assert (names["Idempotency-Key"]["in"], names["Idempotency-Key"]["required"]) == ("header", False)
            assert {"400", "409", "422", "503"} <= one["responses"].keys()
            success = min(one["responses"])
            assert "idempotent-replayed" in one["responses"][success]["headers"]


def test_unknown_fields_are_refused_under_api_v1_alone() -> None:
    """What the server does, the schema says."""
    found = the_document()
    n_strict = 0
    for path, _, one in operations(found):
        for content in one.get("requestBody", {}).get("content", {}).values():
            schema = found["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert (schema.get("additionalProperties") is False) == path.startswith("/api/v1/"), path
            n_strict += path.startswith("/api/v1/")
    assert n_strict == 13


def test_every_example_is_valid() -> None:
    """Of bodies and of parameters; every JSON body has one."""
    found = the_document()
    for path, method, one in operations(found):
        for media_type, content in one.get("requestBody", {}).get("content", {}).items():
            assert media_type == "multipart/form-data" or content["examples"], (method, path)
            for example in content.get("examples", {}).values():
                validator(found, content["schema"]).validate(example["value"])
        for parameter in one.get("parameters", ()):
            if "example" in parameter:
                validator(found, parameter["schema"]).validate(parameter["example"])


def test_uploads_streams_and_downloads_are_told() -> None:
    """A form with its fields, server-sent events beside JSON, bytes."""
    found = the_document()
    upload = operation(found, "createFile")[2]["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"]
    fields = found["components"]["schemas"][upload.rpartition("/")[2]]
    assert fields["properties"]["file"] == {"type": "string", "format": "binary"}
    assert set(fields["required"]) == {"file", "purpose"}
    answers = operation(found, "createChatCompletion")[2]["responses"]["200"]
    assert [*answers["content"]] == ["application/json", "text/event-stream"]
    assert {"x-wattos-target", "x-wattos-cache", "x-request-id"} <= answers["headers"].keys()
    assert [*operation(found, "downloadFile")[2]["responses"]["200"]["content"]] == ["application/octet-stream"]
