"""Clients in Python and TypeScript, generated from the document without a warning; the Python one drives the server."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from gateway import Gateway
from openapi_document import the_document
from server import ADMIN_KEY, ROOT

BIN = Path(sys.executable).parent
NODE_BIN = ROOT / "node_modules" / ".bin"
PACKAGE = "wattos_generated"
TEXT = "The warranty of the lock is twenty-four months. Spare parts are kept in Hamburg."


def run(*command: str | Path, cwd: Path) -> str:
    """The output of both kinds. Raises: AssertionError with it when the command fails."""
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clients")
    (made / "openapi.json").write_text(json.dumps(the_document()))
    return made


@pytest.fixture(scope="module")
def generated(directory: Path) -> str:
    """The package of the Python client. Returns: what the generator said."""
    (directory / "config.yaml").write_text("post_hooks: []\n")
    return run(
        *(BIN / "openapi-python-client", "generate", "--path", "openapi.json", "--config", "config.yaml"),
        *("--meta", "none", "--output-path", PACKAGE, "--fail-on-warning"),
        cwd=directory,
    )


@pytest.fixture(scope="module")
def module(directory: Path, generated: str) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the generated package; afterwards it is gone."""
    sys.path.insert(0, str(directory))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}" if name else PACKAGE)
    sys.path.remove(str(directory))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_the_python_client_is_generated_without_a_warning(directory: Path, generated: str) -> None:
    """openapi-python-client says nothing but that it works, and leaves no operation out."""
    assert generated.split() == ["Generating", PACKAGE]
    files = {path.stem for path in (directory / PACKAGE / "api").rglob("*.py")} - {"__init__"}
    ids = [one["operationId"] for item in the_document()["paths"].values() for one in item.values()]
    assert {name.replace("_", "") for name in files} == {name.lower() for name in ids}


def test_the_typescript_types_are_generated_without_a_warning(directory: Path) -> None:
    """openapi-typescript says nothing but that it works, and a strict compiler takes what it made and a use of it."""
    if not (NODE_BIN / "openapi-typescript").exists():
        pytest.skip("node_modules is missing: run `make tools`")
    said = run(NODE_BIN / "openapi-typescript", "openapi.json", "-o", "api.d.ts", cwd=directory)
    assert "warn" not in said.lower()
    (directory / "use.ts").write_text(
        """
        import type { components, operations } from "./api";
        type Chat = components["schemas"]["ChatCompletionRequest"];
        const asked: Chat = {
          model: "wattos-extractive",
          messages: [
            { role: "system", content: "Be brief." },
            { role: "user", content: [{ type: "text", text: "How long is the warranty?" }] },
          ],
          vector_store_ids: ["vs_1"],
        };
        type Answers = operations["createChatCompletion"]["responses"];
        type Answer = Answers[200]["content"]["application/json"];
        type Refused = Answers[404]["content"]["application/json"];
        type Problem = operations["createTenant"]["responses"][409]["content"]["application/problem+json"];
        export function read(answer: Answer, refused: Refused, problem: Problem): (string | null | undefined)[] {
          const first = answer.choices[0];
          return [asked.model, first?.message.annotations?.[0]?.quote, refused.error.code, problem.detail];
        }
        // @ts-expect-error there is no such role
        export const wrong: Chat = { model: "a", messages: [{ role: "nobody", content: "a" }] };
        """
    )
    run(NODE_BIN / "tsc", "--noEmit", "--strict", "--noUncheckedIndexedAccess", "use.ts", cwd=directory)


def test_the_generated_python_client_drives_the_server(gateway: Gateway, module: Callable[[str], ModuleType]) -> None:
    """From a new tenant to a cited answer, with nothing but generated code; and a refusal is a typed error."""
    models = module("models")
    connect = module("").AuthenticatedClient
    with connect(base_url=gateway.server.url, token=ADMIN_KEY) as admin:
        asked = models.TenantCreate(name="Generated", slug=f"generated-{uuid4().hex[:8]}")
        tenant = module("api.accounts.create_tenant").sync(client=admin, body=asked)
        again = module("api.accounts.create_tenant").sync(client=admin, body=asked)
        assert isinstance(again, models.Problem)
        assert (again.status, again.code) == (409, "conflict")
        key = module("api.accounts.create_key").sync(
            client=admin, body=models.KeyCreate(tenant_id=tenant.id, name="generated")
        )
    with connect(base_url=gateway.server.url, token=key.key) as client:
        listed = module("api.models.list_models").sync(client=client)
        assert "wattos-extractive" in [model.id for model in listed.data]

        file = module("api.files.create_file").sync(
            client=client,
            body=models.FileUpload(
                file=module("types").File(payload=io.BytesIO(TEXT.encode()), file_name="warranty.txt"),
                purpose=models.FileUploadPurpose.ASSISTANTS,
            ),
        )
        assert file.bytes_ == len(TEXT)
        store = module("api.vector_stores.create_vector_store").sync(
            client=client, body=models.StoreCreate(name="generated")
        )
        added = module("api.vector_stores.create_vector_store_file").sync(
            store.id, client=client, body=models.FileAdd(file_id=file.id)
        )
        deadline = time.monotonic() + 30
        while added.status != models.StoreFileObjectStatus.COMPLETED:
            assert added.status == models.StoreFileObjectStatus.IN_PROGRESS, added
            assert time.monotonic() < deadline
            time.sleep(0.05)
            added = module("api.vector_stores.get_vector_store_file").sync(store.id, file.id, client=client)
        found = module("api.vector_stores.search_vector_store").sync(
            store.id, client=client, body=models.SearchRequest(query="How long is the warranty?", max_num_results=1)
        )
        assert found.data[0].content[0].text == TEXT

        question = models.UserMessage(role="user", content="How long is the warranty?")
        answered = module("api.chat.create_chat_completion").sync(
            client=client,
            body=models.ChatCompletionRequest(
                model="wattos-extractive", messages=[question], vector_store_ids=[store.id]
            ),
        )
        citation = answered.choices[0].message.annotations[0]
        assert TEXT[citation.start : citation.end] == citation.quote
        vectors = module("api.embeddings.create_embedding").sync(
            client=client, body=models.EmbeddingCreate(model="wattos-embed", input_=["a", "b"])
        )
        assert [len(one.embedding) for one in vectors.data] == [384, 384]

        missing = module("api.files.retrieve_file").sync_detailed("file_1", client=client)
        assert missing.status_code == 404
        assert isinstance(missing.parsed, models.OpenAIError)
        assert missing.parsed.error.code == "not_found"
