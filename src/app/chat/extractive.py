"""The target `wattos-extractive`: no language model, but exact quotes of the tenant's documents, with citations.

The default over documents, and the last link of every chain for questions over documents: when all vendors are down,
users still get cited quotes. It never stands in for plain chat, tools or a response format.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec

from app.chat.citations import annotations_of
from app.errors import InvalidRequest
from app.grounding import Answer, Answerer
from app.ids import encode_id, new_id
from app.llm.events import event
from app.llm.model import Call, Events, Reply, Target, Usage

NO_TOKENS = Usage(input_tokens=0, output_tokens=0)
"""Quoting generates nothing: no tokens, no cost."""


class ExtractiveTransport:
    """Answers a grounded call by quoting. Raises: InvalidRequest for a call without documents."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def complete(self, target: Target, call: Call) -> Reply:
        answer = await self._answer(call)
        message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
        message["annotations"] = annotations_of(answer)
        choice: dict[str, object] = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        body = self._envelope(call.alias, "chat.completion", [choice])
        body["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return Reply(body=msgspec.json.encode(body), usage=NO_TOKENS)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        """Sends a line of the answer at a time, then the citations on the chunk that finishes it."""
        answer = await self._answer(call)
        envelope = self._envelope(call.alias, "chat.completion.chunk", [])
        deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
        deltas.extend({"content": line} for line in answer.text.splitlines(keepends=True))
        deltas.append({"annotations": annotations_of(answer)})
        for delta in deltas:
            finish = "stop" if "annotations" in delta else None
            envelope["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
            yield Events(wire=event(msgspec.json.encode(envelope)))
        envelope["choices"] = []
        envelope["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        envelope["x_wattos"] = {"cost_nusd": target.cost_nusd(NO_TOKENS)}
        wire = event(msgspec.json.encode(envelope)) if call.include_usage else b""
        yield Events(wire=wire, usage=NO_TOKENS)

    async def _answer(self, call: Call) -> Answer:
        if call.grounding is None:
            raise InvalidRequest(
                "this model quotes documents only: name some with vector_store_ids", param="vector_store_ids"
            )
        retrieved = call.grounding.retrieved
        return await self._answerer.answer(call.grounding.question, retrieved.passages, retrieved.mode)

    @staticmethod
    def _envelope(alias: str, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": encode_id("chatcmpl", new_id()),
            "object": kind,
            "created": int(time.time()),
            "model": alias,
            "choices": choices,
        }
