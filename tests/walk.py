"""How each operation of the OpenAPI document is called: `tests/api/test_walk.py` walks them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec

from app.ids import encode_id
from app.operations.providers.model import provider_id

QUESTION = "Wie lautet der Schließfachcode?"
PROVIDER = encode_id("prov", provider_id("wattos-extractive"))
"""A target that is always there."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How one operation is called. `{file}`, `{store}` … in path, query and body are ids of whoever owns them."""

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = {}
    upload: bool = False
    viewer: bool = True
    """Whether a viewer may, in its own tenant."""


MESSAGES = [{"role": "user", "content": QUESTION}]
GROUNDED = {"model": "wattos-extractive", "messages": MESSAGES, "vector_store_ids": ["{store}"]}

NAMING: dict[str, Step] = {
    "createChatCompletion": Step(method="POST", path="/v1/chat/completions", body=GROUNDED),
    "retrieveFile": Step(method="GET", path="/v1/files/{file}"),
    "downloadFile": Step(method="GET", path="/v1/files/{file}/content"),
    "deleteFile": Step(method="DELETE", path="/v1/files/{file}", viewer=False),
    "createVectorStore": Step(method="POST", path="/v1/vector_stores", body={"file_ids": ["{file}"]}, viewer=False),
    "getVectorStore": Step(method="GET", path="/v1/vector_stores/{store}"),
    "modifyVectorStore": Step(method="POST", path="/v1/vector_stores/{store}", body={"name": "mine"}, viewer=False),
    "deleteVectorStore": Step(method="DELETE", path="/v1/vector_stores/{store}", viewer=False),
    "createVectorStoreFile": Step(
        method="POST", path="/v1/vector_stores/{store}/files", body={"file_id": "{file}"}, viewer=False
    ),
    "listVectorStoreFiles": Step(method="GET", path="/v1/vector_stores/{store}/files"),
    "getVectorStoreFile": Step(method="GET", path="/v1/vector_stores/{store}/files/{file}"),
    "deleteVectorStoreFile": Step(method="DELETE", path="/v1/vector_stores/{store}/files/{file}", viewer=False),
    "retrieveVectorStoreFileContent": Step(method="GET", path="/v1/vector_stores/{store}/files/{file}/content"),
    "searchVectorStore": Step(method="POST", path="/v1/vector_stores/{store}/search", body={"query": QUESTION}),
    "getTenant": Step(method="GET", path="/api/v1/tenants/{tenant}"),
    "getKey": Step(method="GET", path="/api/v1/keys/{key}", viewer=False),
    "revokeKey": Step(method="DELETE", path="/api/v1/keys/{key}", viewer=False),
    "createKey": Step(method="POST", path="/api/v1/keys", body={"name": "mine", "user_id": "{user}"}, viewer=False),
    "listKeys": Step(method="GET", path="/api/v1/keys", query={"tenant_id": "{tenant}"}, viewer=False),
    "createUser": Step(
        method="POST",
        path="/api/v1/users",
        body={"email": "intruder@b.example", "tenant_id": "{tenant}"},
        viewer=False,
    ),
    "listUsers": Step(method="GET", path="/api/v1/users", query={"tenant_id": "{tenant}"}, viewer=False),
    "getUser": Step(method="GET", path="/api/v1/users/{user}", viewer=False),
    "updateUser": Step(method="PATCH", path="/api/v1/users/{user}", body={"role": "viewer"}, viewer=False),
    "deleteUser": Step(method="DELETE", path="/api/v1/users/{user}", viewer=False),
    "putProviderKey": Step(
        method="POST",
        path="/api/v1/provider-keys",
        body={"provider": "openai", "key": "sk-mine", "tenant_id": "{tenant}"},
        viewer=False,
    ),
    "listProviderKeys": Step(method="GET", path="/api/v1/provider-keys", query={"tenant_id": "{tenant}"}, viewer=False),
    "deleteProviderKey": Step(method="DELETE", path="/api/v1/provider-keys/{pkey}", viewer=False),
    "createBudget": Step(
        method="POST",
        path="/api/v1/budgets",
        body={"scope": "key", "scope_id": "{key}", "period": "day", "amount_nusd": 10**12},
        viewer=False,
    ),
    "listBudgets": Step(method="GET", path="/api/v1/budgets", query={"tenant_id": "{tenant}"}, viewer=False),
    "getBudget": Step(method="GET", path="/api/v1/budgets/{budget}", viewer=False),
    "updateBudget": Step(method="PATCH", path="/api/v1/budgets/{budget}", body={"amount_nusd": 10**12}, viewer=False),
    "deleteBudget": Step(method="DELETE", path="/api/v1/budgets/{budget}", viewer=False),
    "putLimit": Step(
        method="PUT",
        path="/api/v1/limits",
        body={"scope": "key", "scope_id": "{key}", "requests_per_minute": 1_000_000},
        viewer=False,
    ),
    "listLimits": Step(method="GET", path="/api/v1/limits", query={"tenant_id": "{tenant}"}, viewer=False),
    "listUsage": Step(method="GET", path="/api/v1/usage", query={"tenant_id": "{tenant}"}, viewer=False),
    "summarizeUsage": Step(method="GET", path="/api/v1/usage/summary", query={"tenant_id": "{tenant}"}, viewer=False),
    "exportUsage": Step(method="GET", path="/api/v1/usage/export", query={"tenant_id": "{tenant}"}, viewer=False),
    "getPrices": Step(method="GET", path="/api/v1/prices", query={"tenant_id": "{tenant}"}, viewer=False),
    "listPriceVersions": Step(
        method="GET", path="/api/v1/prices/history", query={"tenant_id": "{tenant}"}, viewer=False
    ),
    "listAuditEvents": Step(method="GET", path="/api/v1/audit-events", query={"tenant_id": "{tenant}"}, viewer=False),
}
"""Operations that name somebody's things."""

OWN: dict[str, Step] = {
    "createCompletion": Step(method="POST", path="/v1/completions", body={"model": "chat", "prompt": QUESTION}),
    "createModeration": Step(method="POST", path="/v1/moderations", body={"model": "guard", "input": QUESTION}),
    "createMessage": Step(
        method="POST", path="/v1/messages", body={"model": "chat", "messages": MESSAGES, "max_tokens": 9}
    ),
    "countMessageTokens": Step(
        method="POST", path="/v1/messages/count_tokens", body={"model": "chat", "messages": MESSAGES}
    ),
    "createEmbedding": Step(method="POST", path="/v1/embeddings", body={"model": "vectors", "input": QUESTION}),
    "listModels": Step(method="GET", path="/v1/models"),
    "retrieveModel": Step(method="GET", path="/v1/models/chat"),
    "createFile": Step(method="POST", path="/v1/files", upload=True, viewer=False),
    "listFiles": Step(method="GET", path="/v1/files"),
    "listVectorStores": Step(method="GET", path="/v1/vector_stores"),
    "signOut": Step(method="POST", path="/api/v1/auth/logout"),
    "changePassword": Step(
        method="POST",
        path="/api/v1/auth/password",
        body={"current_password": "wrong", "new_password": "Regen auf dem Dach 12"},
    ),
    "getMe": Step(method="GET", path="/api/v1/auth/me"),
}
"""Operations on one's own things alone."""

PLATFORM: dict[str, Step] = {
    "reloadModels": Step(method="POST", path="/api/v1/models/reload", viewer=False),
    "listProviders": Step(method="GET", path="/api/v1/providers", viewer=False),
    "resetProvider": Step(method="POST", path=f"/api/v1/providers/{PROVIDER}/reset", viewer=False),
    "setProviderBreaker": Step(
        method="PUT", path=f"/api/v1/providers/{PROVIDER}/breaker", body={"forced": None}, viewer=False
    ),
    "setPrice": Step(
        method="POST",
        path="/api/v1/prices",
        body={
            "tenant_id": "{tenant}",
            "target": "openai/gpt",
            "input_nusd_per_mtok": 1,
            "output_nusd_per_mtok": 1,
        },
        viewer=False,
    ),
    "createTenant": Step(method="POST", path="/api/v1/tenants", body={"name": "x", "slug": "x"}, viewer=False),
    "listTenants": Step(method="GET", path="/api/v1/tenants", viewer=False),
}
"""Operations of the platform's administrator."""

PUBLIC: dict[str, Step] = {
    "signIn": Step(
        method="POST",
        path="/api/v1/auth/login",
        body={"tenant": "{slug}", "email": "boss@a.example", "password": "wrong"},
    ),
    "refreshTokens": Step(method="POST", path="/api/v1/auth/refresh", body={"refresh_token": "rt-wattos-wrong"}),
    "getLiveness": Step(method="GET", path="/health/liveness"),
    "getReadiness": Step(method="GET", path="/health/readiness"),
    "getHealth": Step(method="GET", path="/health"),
    "getMetrics": Step(method="GET", path="/health/metrics"),
    "listPlugins": Step(method="GET", path="/plugins"),
}
"""Operations that need no credential."""

ALL = {**NAMING, **OWN, **PLATFORM, **PUBLIC}

ABSENT = {
    "file": f"file_{uuid4().hex}",
    "store": f"vs_{uuid4().hex}",
    "tenant": f"ten_{uuid4().hex}",
    "key": f"key_{uuid4().hex}",
    "user": f"user_{uuid4().hex}",
    "pkey": f"pkey_{uuid4().hex}",
    "budget": f"bud_{uuid4().hex}",
    "slug": "nobody-here",
}
"""Ids of nothing."""
