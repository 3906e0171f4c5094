"""What the demo does over HTTP: administration plainly, everything else with the official `openai` package."""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import msgspec
from openai import OpenAI

from app.demo.documents import MEDIA_TYPES, Question
from app.demo.server import DemoFailed
from app.demo.terminal import ShowProgress, Terminal

INGESTION_TIMEOUT_S = 420.0
"""About 5 passages a second on two cores: ten times what the demo's own documents need."""


class Said(msgspec.Struct, kw_only=True):
    """One streamed answer and its trail."""

    text: str
    annotations: list[dict[str, Any]]
    target: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int | None
    first_token_s: float


def make_tenant_and_key(url: str, admin_key: str, slug: str) -> str:
    """The API key. The tenant is made at the demo's first run and found again later."""
    with httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {admin_key}"}, timeout=30) as api:
        made = api.post("/tenants", json={"name": "Demo", "slug": slug})
        if made.status_code == HTTPStatus.CONFLICT:
            page: dict[str, Any] = api.get("/tenants", params={"limit": 100}).raise_for_status().json()
            tenant_id = next(t["id"] for t in page["data"] if t["slug"] == slug)
        else:
            tenant_id = made.raise_for_status().json()["id"]
        key = api.post("/keys", json={"tenant_id": tenant_id, "name": "demo"}).raise_for_status().json()["key"]
        return str(key)


def replace_store(client: OpenAI, name: str) -> str:
    """A fresh vector store; the one of an earlier run goes, and its files with it."""
    for old in client.vector_stores.list(limit=100):
        if old.name == name:
            for file in client.vector_stores.files.list(old.id):
                client.files.delete(file.id)
            client.vector_stores.delete(old.id)
    return client.vector_stores.create(name=name).id


def ingest(client: OpenAI, store_id: str, paths: list[Path], show: ShowProgress) -> int:
    """Upload, then watch the jobs. Returns: passages made. Raises: DemoFailed when a document fails or sticks."""
    names: dict[str, str] = {}
    for done, path in enumerate(paths):
        show(f"uploading {path.name}", done, len(paths))
        media_type = MEDIA_TYPES[path.suffix]
        file = client.files.create(file=(path.name, path.read_bytes(), media_type), purpose="assistants")
        client.vector_stores.files.create(store_id, file_id=file.id)
        names[file.id] = path.name
    deadline = time.monotonic() + INGESTION_TIMEOUT_S
    while time.monotonic() < deadline:
        files = list(client.vector_stores.files.list(store_id, limit=100))
        failed = [f for f in files if f.status in {"failed", "cancelled"}]
        if failed:
            reason = failed[0].last_error.message if failed[0].last_error else failed[0].status
            raise DemoFailed(f"{names[failed[0].id]} could not be read: {reason}")
        progress = [_progress_of(f) for f in files]
        embedded, total = sum(p["done"] for p in progress), sum(p["total"] for p in progress)
        current = next((names[f.id] for f in files if f.status != "completed"), "all documents")
        show(f"reading {current}", embedded, total)
        if all(f.status == "completed" for f in files):
            return int(total)
        time.sleep(0.3)
    raise DemoFailed(f"the documents were not ready within {INGESTION_TIMEOUT_S:g} s")


def ask(client: OpenAI, terminal: Terminal, model: str, question: str, *, store_ids: list[str] | None = None) -> Said:
    """Stream one answer to the terminal as it comes."""
    began = time.perf_counter()
    extra: dict[str, Any] = {"vector_store_ids": store_ids} if store_ids else {}
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=120,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    )
    said = Said(
        text="",
        annotations=[],
        target=raw.headers.get("x-wattos-target", ""),
        attempts=int(raw.headers.get("x-wattos-attempts", 0)),
        input_tokens=0,
        output_tokens=0,
        cost_nusd=None,
        first_token_s=0.0,
    )
    for chunk in raw.parse():
        if chunk.usage is not None:
            said.input_tokens, said.output_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            ours: dict[str, Any] = (chunk.model_extra or {}).get("x_wattos") or {}
            said.cost_nusd = ours.get("cost_nusd")
        for choice in chunk.choices:
            piece = choice.delta.content or ""
            if piece and not said.text:
                said.first_token_s = time.perf_counter() - began
            said.text += piece
            terminal.piece(piece)
            said.annotations += (choice.delta.model_extra or {}).get("annotations") or []
    terminal.line("")
    return said


def stored_text(client: OpenAI, store_id: str, file_id: str) -> str:
    """The text of a document as it was stored: what citations' offsets refer to."""
    page: dict[str, Any] = client.get(
        f"/vector_stores/{store_id}/files/{file_id}/content", cast_to=httpx.Response
    ).json()
    return "".join(part["text"] for part in page["data"])


def judge(said: Said, question: Question, texts: dict[str, str]) -> list[str]:
    """What is wrong with an answer over documents; nothing, if all is as it should be."""
    wrong = [
        f"the quote {a['quote']!r} does not stand in {a['filename']} at {a['start']}"
        for a in said.annotations
        if texts[a["file_id"]][a["start"] : a["end"]] != a["quote"]
    ]
    if not question.expects:
        return wrong + (
            ["something was cited for a question that the documents do not answer"] if said.annotations else []
        )
    if not said.annotations:
        return [*wrong, "no citation"]
    missing = [word for word in question.expects if word.casefold() not in said.text.casefold()]
    return wrong + ([f"the answer does not mention {', '.join(missing)}"] if missing else [])


def _progress_of(file: object) -> dict[str, int]:
    extra: dict[str, Any] = getattr(file, "model_extra", None) or {}
    return extra.get("progress") or {"done": 0, "total": 0}
