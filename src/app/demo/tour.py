"""The demo's script: prepare, read documents, ask, fall back, and show the trail of every call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from openai import OpenAI, OpenAIError

from app.commands import pull_models
from app.demo.client import Said, ask, ingest, judge, make_tenant_and_key, replace_store, stored_text
from app.demo.documents import QUESTIONS, Question, demo_documents
from app.demo.server import DemoFailed, ServerProcess
from app.demo.terminal import Terminal, shown_cost
from app.own_secrets import ensure_admin_key
from app.settings import read_settings

STORE_NAME = "WattOS demo"
CHAIN = "demo-chain"

CONFIG = f"""\
# Written by `wattos demo`: a chain whose first target cannot be reached (nothing listens on port 9).
model_list:
  - model_name: {CHAIN}
    litellm_params: {{model: openai/unreachable, api_base: "http://127.0.0.1:9/v1", api_key: none}}
  - model_name: wattos-local
    litellm_params: {{model: wattos/local}}
litellm_settings:
  fallbacks: [{{{CHAIN}: [wattos-local]}}]
"""


def run_demo(env: Mapping[str, str], *, once: bool, port: int) -> int:
    """Exit code: 0 if every step was as it should be, 1 if not, 130 if the user interrupted."""
    terminal = Terminal()
    began = time.monotonic()
    try:
        settings = read_settings(env)
        asyncio.run(pull_models(env))
        admin_key = ensure_admin_key(env, settings).value
        settings.data_path.mkdir(parents=True, exist_ok=True)
        config = settings.data_path / "demo.yaml"
        config.write_text(CONFIG)
        env = {**env, "ADMIN_KEY": admin_key, "MODELS_CONFIG": str(config)}
        with ServerProcess(env, port=port, log=settings.data_path / "demo.log") as server:
            return _tour(terminal, server, admin_key, once=once, began=began)
    except KeyboardInterrupt:
        terminal.line("\nstopped")
        return 130
    except (DemoFailed, OpenAIError, OSError) as exc:
        terminal.bad(str(exc))
        return 1


def _tour(terminal: Terminal, server: ServerProcess, admin_key: str, *, once: bool, began: float) -> int:
    terminal.title("1  A gateway and a database, on this machine alone")
    server.wait_until_ready()
    terminal.good(f"serving on {server.url} (log: {_shown(server.log)})")
    key = make_tenant_and_key(server.url, admin_key, slug="demo")
    terminal.good("tenant “demo” with a key of its own")
    client = OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120)

    documents = demo_documents()
    terminal.title(f"2  {len(documents)} documents in: Markdown, PDF, DOCX")
    started = time.monotonic()
    store_id = replace_store(client, STORE_NAME)
    with terminal.progress() as show:
        passages = ingest(client, store_id, documents, show)
    terminal.good(f"{passages} passages embedded in {time.monotonic() - started:.1f} s")

    terminal.title("3  Questions over the documents, answered with exact quotes")
    problems = [p for q in QUESTIONS for p in _question(terminal, client, store_id, q)]

    terminal.title("4  A plain chat whose first target is unreachable")
    problems += _fallback(terminal, client)

    terminal.title("Done" if not problems else "Not as it should be")
    for problem in problems:
        terminal.bad(problem)
    terminal.line(f"{time.monotonic() - began:.0f} s in all")
    if once or problems:
        return 1 if problems else 0
    _invite(terminal, server.url, key, store_id)
    server.wait()
    return 0


def _question(terminal: Terminal, client: OpenAI, store_id: str, question: Question) -> list[str]:
    terminal.line(f"\n? {question.text}", style="bold")
    said = ask(client, terminal, "wattos-extractive", question.text, store_ids=[store_id])
    for number, a in enumerate(said.annotations, 1):
        terminal.line(f"  [{number}] {a['filename']}, characters {a['start']}–{a['end']}", style="dim")
    _trail(terminal, said)
    texts = {a["file_id"]: stored_text(client, store_id, a["file_id"]) for a in said.annotations}
    return [f"{question.text} – {wrong}" for wrong in judge(said, question, texts)]


def _fallback(terminal: Terminal, client: OpenAI) -> list[str]:
    question = "Say hello in one short sentence."
    terminal.line(f"\n? {question}", style="bold")
    said = ask(client, terminal, CHAIN, question)
    _trail(terminal, said)
    problems: list[str] = []
    if said.attempts < 2 or "unreachable" in said.target:
        problems.append(f"the chain did not fall back: target {said.target}, attempts {said.attempts}")
    if not said.text.strip() or not said.output_tokens:
        problems.append("the fallback answered nothing")
    return problems


def _trail(terminal: Terminal, said: Said) -> None:
    terminal.line(
        f"  target {said.target} · attempts {said.attempts} · tokens {said.input_tokens} in, {said.output_tokens} out"
        f" · cost {shown_cost(said.cost_nusd)} · first token {said.first_token_s * 1000:.0f} ms",
        style="dim",
    )


def _invite(terminal: Terminal, url: str, key: str, store_id: str) -> None:
    terminal.title("Yours to try (Ctrl-C ends it)")
    terminal.line(f"URL  {url}/v1\nKey  {key}\n")
    message = '{"role": "user", "content": "Wie sichere ich die Daten?"}'
    body = f'{{"model": "wattos-extractive", "vector_store_ids": ["{store_id}"], "messages": [{message}]}}'
    terminal.line(f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n  -d '{body}'")


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
