"""A gateway in front of vendors that misbehave, with either transport: one target, two in a row, and seams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway import PRICED, Gateway, config
from server import environment, running
from upstream import API_KEY, running_upstream

TRANSPORTS = ("auto", "litellm")
"""What LLM_TRANSPORT takes: clients must not notice which."""


@contextmanager
def running_nasty(tmp_path: Path, transport: str, env: Mapping[str, str] | None = None) -> Iterator[Gateway]:
    """`tests/gateway.py`'s aliases, and `seamed`: two targets, the second goes on where the first broke off."""
    with running_upstream() as upstream:
        made: dict[str, Any] = config(upstream.url)
        made["model_list"] += [
            {
                "model_name": "seamed",
                "litellm_params": {"model": f"openai/seam-{n}", "api_base": upstream.url, "api_key": API_KEY, **PRICED},
                "model_info": {"x_wattos_seam": True},
            }
            for n in (1, 2)
        ]
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(made))
        settings = {
            "MODELS_CONFIG": str(models),
            "LLM_TRANSPORT": transport,
            "LOCAL_MODELS_ENABLED": "false",
            "RETRY_INITIAL_DELAY": "0",
            "RETRY_MAX_DELAY": "0",
            "RETRY_MAX_ATTEMPTS": "1",
            "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
            **(env or {}),
        }
        with running(environment(tmp_path / "data", **settings), tmp_path / "server.log") as server:
            yield Gateway(server, upstream)


class Seen:
    """A stream as a client saw it: the payload of each event, in order."""

    def __init__(self, payloads: Sequence[str]) -> None:
        self.payloads = tuple(payloads)
        self.is_done = bool(payloads) and payloads[-1] == "[DONE]"
        self.n_done = self.payloads.count("[DONE]")
        self.bodies: list[dict[str, Any]] = [json.loads(one) for one in payloads if one != "[DONE]"]
        self.errors = [body["error"] for body in self.bodies if "error" in body]
        self.chunks = [body for body in self.bodies if "error" not in body]

    @property
    def text(self) -> str:
        return "".join(c["delta"].get("content") or "" for body in self.chunks for c in body["choices"])

    @property
    def finishes(self) -> list[str]:
        return [c["finish_reason"] for body in self.chunks for c in body["choices"] if c.get("finish_reason")]

    @property
    def roles(self) -> list[str]:
        return [c["delta"]["role"] for body in self.chunks for c in body["choices"] if c["delta"].get("role")]


def seen_in(response: httpx.Response) -> Seen:
    """Raises: AssertionError when the bytes are anything but whole events of one `data:` line each."""
    events = response.text.split("\n\n")
    assert events.pop() == "", response.text[-200:]
    assert all(event.startswith("data: ") and "\n" not in event for event in events), response.text[:500]
    return Seen([event.removeprefix("data: ") for event in events])


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of the samples of `name` with these labels, from `/health/metrics`."""
    total = 0.0
    for line in httpx.get(f"{gateway.server.operations_url}/health/metrics", timeout=10).text.splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == name and all(f'{key}="{given}"' in sample for key, given in labels.items()):
            total += float(value)
    return total
