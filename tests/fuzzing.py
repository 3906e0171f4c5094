"""schemathesis against a real server: every operation, with valid and with invalid requests made from the document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from gateway import Gateway
from openapi_document import the_document
from server import ADMIN_KEY, ROOT
from upstream import embeds, says

TEXT = "The warranty of the lock is twenty-four months."


def fuzz(gateway: Gateway, directory: Path, *, prefix: str, options: Sequence[str]) -> str:
    """Runs over the operations below `prefix`. Returns: the report. Raises: AssertionError with it for any finding."""
    document = directory / "openapi.json"
    key = gateway.server.make_key(f"fuzz-{uuid4().hex[:8]}")
    document.write_text(seeded(gateway, key))
    credential = ADMIN_KEY if prefix == "/api/v1/" else key
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(ROOT / "tests" / "schemathesis.toml")),
        *("run", str(document), "--url", gateway.server.url, "--include-path-regex", f"^{prefix}"),
        *("--header", f"Authorization: Bearer {credential}"),
        *("--continue-on-failure", "--no-color", *options),
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-20_000:]
    return report


def seeded(gateway: Gateway, key: str) -> str:
    """The document with examples that lead somewhere: a file and a store that exist, a model that answers at once."""
    with gateway.http(key) as client:
        form = {"file": ("warranty.txt", TEXT.encode())}
        file = client.post("/v1/files", files=form, data={"purpose": "assistants"}).raise_for_status().json()["id"]
        store = client.post("/v1/vector_stores", json={"file_ids": [file]}).raise_for_status().json()["id"]
    gateway.upstream.on("vec", embeds())
    gateway.upstream.on("guard", says('{"id": "modr-1", "model": "x", "results": []}'))
    text = json.dumps(the_document())
    for was, now in (
        ("file_019a2b3c4d5e7f8091a2b3c4d5e6f708", file),
        ("vs_019a2b3c4d5e7f8091a2b3c4d5e6f708", store),
        ("wattos-local", "chat"),
        ("wattos-embed", "vectors"),
    ):
        assert was in text
        text = text.replace(was, now)
    return text
