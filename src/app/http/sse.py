"""Server-sent events in OpenAI's frames: `data: …` and a blank line, bare newlines (Litestar's own SSE adds CR)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from app.http.error_table import TABLE, code_of
from app.http.schemas import OpenAIError, OpenAIErrorBody
from plugins.contract.errors import WattosError

DONE = b"data: [DONE]\n\n"


def error_event(exc: WattosError) -> bytes:
    """The one typed event that ends a broken stream; no `[DONE]` follows."""
    code = code_of(exc)
    body = OpenAIErrorBody(message=exc.message, type=TABLE[code].openai_type, code=code, attempts=exc.attempts or UNSET)
    return b"data: " + msgspec.json.encode(OpenAIError(body)) + b"\n\n"
