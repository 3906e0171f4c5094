"""Requests and a vendor's answers, for the suite that shows two transports to be the same to a client.

Each case is one feature of OpenAI's wire: the fields that a client sends, and what a vendor answers, both ways.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import field

from upstream_server import Exchange, Script

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
"""What is in it is nobody's business on the way."""
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town, 'today' if unsaid.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
        "strict": True,
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
LOGPROB = {"token": "Hi", "logprob": -0.12345678901234567, "bytes": [72, 105], "top_logprobs": []}
USAGE = {"prompt_tokens": 1_000, "completion_tokens": 50, "total_tokens": 1_050}
DETAILED = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 768, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 32,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 3,
        "rejected_prediction_tokens": 1,
    },
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """`messages`, where there are none, are those of `ASKED`."""

    fields: Mapping[str, Any] = {}
    message: Mapping[str, Any] = {}
    """More of the assistant's message, or other than "Hello"."""
    deltas: Sequence[Mapping[str, Any]] = ({"content": "Hel"}, {"content": "lo"})
    """The same, in the pieces of a stream, behind the role."""
    finish: str = "stop"
    choice: Mapping[str, Any] = {}
    """More of each choice."""
    body: Mapping[str, Any] = {}
    """More of the answer and of each chunk."""
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)
    n: int = 1

    @property
    def sent(self) -> dict[str, msgspec.Raw]:
        fields = {"model": "asked", "messages": ASKED, **self.fields}
        return {name: msgspec.Raw(json.dumps(value, ensure_ascii=False).encode()) for name, value in fields.items()}

    def answer(self) -> Script:
        """What a vendor says to it."""
        return _answering(self)


ASKED = [{"role": "system", "content": "Be brief. Grüße 🎉"}, {"role": "user", "content": "Say hello."}]


def _call(number: int, town: str) -> dict[str, Any]:
    arguments = json.dumps({"town": town}, ensure_ascii=False)
    return {"id": f"call_{number}", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def _streamed_calls(*calls: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As OpenAI streams them: a head with name and id, then the arguments in pieces without either."""
    deltas: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        function = call["function"]
        deltas.append({"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]})
        whole = function["arguments"]
        for piece in (whole[:4], whole[4:9], whole[9:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    return deltas


CASES: Mapping[str, Case] = {
    "plain text": Case(fields={"temperature": 0.7, "top_p": 0.9, "max_tokens": 100, "stop": ["\n"], "user": "u-1"}),
    "letters and escapes": Case(
        message={"content": 'Grüße 🎉 "quoted" \\ \n\t\u2028 </script>'},
        deltas=[{"content": "Grüße 🎉 "}, {"content": '"quoted" \\ \n\t'}, {"content": "\u2028 </script>"}],
    ),
    "what looks like our own words": Case(
        message={"content": '"finish_reason":"stop" "usage":null data: [DONE]\n\n"model":"gpt-2026"'},
        deltas=[
            {"content": '"finish_reason":"stop"'},
            {"content": ' "usage":null data: [DONE]\n\n'},
            {"content": '"model":"gpt-2026"'},
        ],
    ),
    "n=2": Case(fields={"n": 2}, n=2),
    "tools": Case(
        fields={"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        message={"content": None, "tool_calls": [_call(1, "Köln")]},
        deltas=_streamed_calls(_call(1, "Köln")),
        finish="tool_calls",
    ),
    "parallel tools": Case(
        fields={"tools": [TOOL], "parallel_tool_calls": True},
        message={"content": "I look.", "tool_calls": [_call(1, "Köln"), _call(2, "Ürümqi")]},
        deltas=[{"content": "I look."}, *_streamed_calls(_call(1, "Köln"), _call(2, "Ürümqi"))],
        finish="tool_calls",
    ),
    "answers of tools": Case(
        fields={
            "tools": [TOOL],
            "messages": [
                *ASKED,
                {"role": "assistant", "content": None, "tool_calls": [_call(1, "Köln")]},
                {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees": 21}'},
            ],
        }
    ),
    "structured output": Case(
        fields={
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
        },
        message={"content": '{"n": 7}', "parsed": None},
        deltas=[{"content": '{"n"'}, {"content": ": 7}"}],
    ),
    "JSON mode": Case(fields={"response_format": {"type": "json_object"}}),
    "pictures": Case(
        fields={
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
                    ],
                }
            ]
        }
    ),
    "sound": Case(
        fields={
            "modalities": ["text", "audio"],
            "audio": {"voice": "alloy", "format": "wav"},
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}],
                }
            ],
        },
        message={"content": None, "audio": {"id": "audio_1", "data": "UklGRg==", "expires_at": 9, "transcript": "Hi"}},
        deltas=[
            {"audio": {"id": "audio_1", "transcript": "H"}},
            {"audio": {"data": "UklGRg==", "transcript": "i"}},
            {"audio": {"expires_at": 9}},
        ],
    ),
    "files": Case(
        fields={
            "messages": [
                {"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERg=="}}]}
            ]
        }
    ),
    "reasoning": Case(
        fields={"reasoning_effort": "high", "max_completion_tokens": 500},
        message={"reasoning_content": "Let me think."},
        deltas=[{"reasoning_content": "Let me "}, {"reasoning_content": "think."}, {"content": "Hello"}],
        usage=DETAILED,
    ),
    "logprobs": Case(
        fields={"logprobs": True, "top_logprobs": 2},
        choice={"logprobs": {"content": [LOGPROB], "refusal": None}},
    ),
    "seed": Case(fields={"seed": 42}, body={"system_fingerprint": "fp_1"}),
    "a refusal": Case(
        message={"content": None, "refusal": "I cannot."},
        deltas=[{"refusal": "I can"}, {"refusal": "not."}],
    ),
    "cut short": Case(fields={"max_tokens": 1}, finish="length"),
    "filtered": Case(finish="content_filter"),
    "unknown fields of the request": Case(
        fields={"min_p": 0.05, "chat_template_kwargs": {"enable_thinking": False}, "x_new": [1, {"a": None}]}
    ),
    "OpenAI's newest fields": Case(
        fields={
            "store": True,
            "metadata": {"a": "b"},
            "service_tier": "flex",
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "verbosity": "low",
            "prediction": {"type": "content", "content": "Hello"},
            "web_search_options": {},
        },
        body={"service_tier": "flex"},
    ),
    "unknown fields of the answer": Case(
        body={"x_body": {"a": [1, 2]}, "provider": "Somebody"},
        choice={"stop_reason": 7},
        message={"x_message": {"b": True}},
        deltas=[{"content": "Hel", "x_delta": 1}, {"content": "lo"}],
    ),
    "annotations": Case(
        message={
            "annotations": [
                {
                    "type": "url_citation",
                    "url_citation": {"url": "https://example.org/", "title": "E", "start_index": 0, "end_index": 5},
                }
            ]
        }
    ),
    "usage in detail": Case(usage=DETAILED),
    "usage unsaid": Case(usage=None),
    "large numbers": Case(
        fields={"seed": 9_223_372_036_854_775_807, "temperature": 1e-7, "logit_bias": {"50256": -100}},
        body={"x_number": 1e-7, "x_large": 9_007_199_254_740_993},
    ),
}


def _answering(case: Case) -> Script:
    async def script(exchange: Exchange) -> None:
        request = exchange.received.body
        body = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-2026", **case.body}
        message = {"role": "assistant", "content": "Hello", "refusal": None, **case.message}
        if not request.get("stream"):
            choices = [
                {"index": index, "message": message, "logprobs": None, "finish_reason": case.finish, **case.choice}
                for index in range(case.n)
            ]
            counted = {"usage": case.usage} if case.usage else {}
            await exchange.json(200, {**body, "object": "chat.completion", "choices": choices, **counted})
            return
        await exchange.head(200, {"content-type": "text/event-stream"})
        body["object"] = "chat.completion.chunk"
        role = [{"role": "assistant", "content": ""}]
        for number, delta in enumerate([*role, *case.deltas]):
            for index in range(case.n):
                more = case.choice if number else {}
                choice = {"index": index, "delta": delta, "finish_reason": None, **more}
                await exchange.event({**body, "choices": [choice]})
            await asyncio.sleep(0)
        for index in range(case.n):
            await exchange.event({**body, "choices": [{"index": index, "delta": {}, "finish_reason": case.finish}]})
        if case.usage and (request.get("stream_options") or {}).get("include_usage"):
            await exchange.event({**body, "choices": [], "usage": case.usage})
        await exchange.event("[DONE]")
        exchange.received.answered = True

    return script
