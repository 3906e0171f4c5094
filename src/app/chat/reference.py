"""Chat requests as the OpenAPI document tells of them: OpenAI's shapes with our extensions.

Nothing is decoded into these: requests pass through (see `schemas`), and what a vendor takes beyond this passes too. https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.chat.schemas import MAX_STORES, RetrievalOptions
from app.llm.caching import CacheWish
from app.model_calls import MAX_FALLBACKS, StreamOptions


class TextContent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class ImageUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where the picture is: `https:` or `data:`."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImageContent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """A picture, for models that see."""

    image_url: ImageUrl


class InputAudio(msgspec.Struct, frozen=True, kw_only=True):
    """`data`: base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioContent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="input_audio"):
    """Sound, for models that hear."""

    input_audio: InputAudio


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the vendor's, or the bytes themselves in base64."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class FileContentPart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """A file, for models that read them."""

    file: FileSource


class RefusalContent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """What a model said instead of an answer."""

    refusal: str


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments`: JSON as text, as the model wrote it; it may not be valid."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asks for."""

    id: str
    function: FunctionCall
    type: Literal["function"]


class DeveloperMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """Instructions; newer models' name for `system`."""

    content: str | list[TextContent]
    name: str | None = None


class SystemMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextContent]
    name: str | None = None


class UserMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """What the person says. The text of the last one is what is looked up in documents."""

    content: str | list[TextContent | ImageContent | AudioContent | FileContentPart]
    name: str | None = None


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """What the model said before."""

    content: str | list[TextContent | RefusalContent] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """The result of a call that the model asked for."""

    content: str | list[TextContent]
    tool_call_id: str


Message = DeveloperMessage | SystemMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """`parameters`: a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may ask for."""

    function: FunctionDefinition
    type: Literal["function"]


class FunctionName(msgspec.Struct, frozen=True, kw_only=True):
    """Which function."""

    name: str


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """This function, and no other."""

    function: FunctionName
    type: Literal["function"]


class TextFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True):
    """`schema`: a JSON Schema."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON of this schema."""

    json_schema: JsonSchema


class ChatCompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's request. `vector_store_ids` and `retrieval` (documents), `cache`, `fallbacks` (aliases, instead of the
    configured ones), `disable_fallbacks` and `x_wattos_seam` (another target may continue a stream that breaks off) are
    ours. Other fields reach the model."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    seed: int | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    vector_store_ids: Annotated[list[str], Meta(max_length=MAX_STORES)] | None = None
    retrieval: RetrievalOptions | None = None
    cache: CacheWish | None = None
    fallbacks: Annotated[list[str], Meta(max_length=MAX_FALLBACKS)] | None = None
    disable_fallbacks: bool | None = None
    x_wattos_seam: bool | None = None


EXAMPLES = {
    "plain": {"model": "wattos-local", "messages": [{"role": "user", "content": "What is a vector store?"}]},
    "documents": {
        "model": "wattos-extractive",
        "messages": [{"role": "user", "content": "How long is the warranty?"}],
        "vector_store_ids": ["vs_019a2b3c4d5e7f8091a2b3c4d5e6f708"],
        "retrieval": {"max_results": 8},
    },
}
