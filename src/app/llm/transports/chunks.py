"""A stream of chunks as litellm hands it over, made honest: what the target did not send is not passed on as if it had.

Where litellm calls a vendor through OpenAI's own SDK, its chunks are read directly: litellm's rendering of them costs
twice the CPU (34 to 14 ms for 100 chunks, measured), ends at the first of several choices that finishes, and replaces
times and missing usage by its own. Elsewhere litellm's rendering is read, and what it made up is left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any


class Source:
    """The chunks of one `CustomStreamWrapper` as JSON objects without their usage.

    `counted`: the last usage that the target sent. `is_finished`: it finished every choice that it began.
    """

    def __init__(self, response: Any) -> None:
        self._response = response
        self._is_vendors = type(response.completion_stream).__module__.partition(".")[0] == "openai"
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self.counted: Mapping[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        if not self._is_vendors:  # litellm passes on the first finish alone
            return bool(self._finished)
        return bool(self._begun) and self._begun == self._finished

    async def bodies(self) -> AsyncIterator[dict[str, Any]]:
        """Ends early at a finish of litellm's own making, with which it closes streams that broke off."""
        chunks = self._response.completion_stream if self._is_vendors else self._response
        async for chunk in chunks:
            body = self._body(chunk)
            counted = body.pop("usage", None)
            if counted is not None and (self._is_vendors or self._was_counted_upstream()):
                self.counted = counted if self._is_vendors else {k: v for k, v in counted.items() if k != "cost"}
            for choice in body["choices"]:
                self._begun.add(choice.get("index", 0))
                if choice.get("finish_reason"):
                    if self._is_made_up():
                        return
                    self._finished.add(choice.get("index", 0))
            yield body

    def _body(self, chunk: Any) -> dict[str, Any]:
        """As the vendor wrote it, or without the many fields that litellm's chunks have and leave empty."""
        how = {"exclude_unset": True, "warnings": False} if self._is_vendors else {"exclude_none": True}
        body: dict[str, Any] = chunk.model_dump(**how)
        body["choices"] = body.get("choices") or []
        return body

    def _is_made_up(self) -> bool:
        response = self._response
        return not (self._is_vendors or response.received_finish_reason or response.intermittent_finish_reason)

    def _was_counted_upstream(self) -> bool:
        """Where the target sent no usage, litellm guesses with a tokenizer."""
        return any(getattr(chunk, "usage", None) is not None for chunk in self._response.chunks)


def says_something(choice: Mapping[str, Any]) -> bool:
    delta: Mapping[str, Any] = choice.get("delta") or {}
    return bool(choice.get("finish_reason") or any(delta.get(name) is not None for name in delta))


def is_token_of(choice: Mapping[str, Any]) -> bool:
    """More than a role: once a client has seen it, no other target may begin anew."""
    delta: Mapping[str, Any] = choice.get("delta") or {}
    return bool(choice.get("finish_reason") or any(delta[name] for name in delta if name != "role"))


def of_text(body: dict[str, Any], alias: str) -> dict[str, Any]:
    """A text completion, or a chunk of one, with the alias as `model` and what the legacy wire always has."""
    body |= {"model": alias, "object": "text_completion"}
    for choice in body["choices"]:
        choice.pop("provider_specific_fields", None)
        choice["text"] = choice.get("text") or ""
        choice.setdefault("index", 0)
        choice.setdefault("logprobs", None)
        choice.setdefault("finish_reason", None)
    return body


def cleaned(body: dict[str, Any], alias: str, part: str) -> dict[str, Any]:
    """The alias as `model`, what the wire always has, and nothing that only litellm's own callers know.

    `part`: `message` of a whole answer, `delta` of a chunk. What litellm did not know it has put aside, a refusal among
    it: that is the vendor's, and goes back to its place.
    """
    body["model"] = alias
    body.pop("provider_specific_fields", None)
    for choice in body.get("choices", []):
        _put_back(choice)
        content = choice.setdefault(part, {})
        _put_back(content)
        if part == "message":
            content.setdefault("content", None)
            content.setdefault("refusal", None)
            choice.setdefault("logprobs", None)
        else:
            choice.setdefault("finish_reason", None)
        if isinstance(choice.get("logprobs"), dict):
            choice["logprobs"].setdefault("content", None)
            choice["logprobs"].setdefault("refusal", None)
    return body


def _put_back(holder: dict[str, Any]) -> None:
    aside: dict[str, Any] = holder.pop("provider_specific_fields", None) or {}
    for name, value in aside.items():
        if value is not None:
            holder.setdefault(name, value)
