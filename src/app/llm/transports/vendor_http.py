"""HTTP with a vendor, whatever its wire: one POST, an answer within bounds, and what went wrong in our own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import aiohttp
import msgspec
from yarl import URL

from app.errors import UpstreamMisconfigured, UpstreamTimeout, UpstreamUnavailable
from app.llm.model import Target
from app.llm.transports.refusals import Said, said_in
from plugins.contract.errors import WattosError

COMMON_HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "wattos"}

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A whole answer is held in memory: the largest of any vendor, 2,048 vectors of 3,072 numbers as text, is 60 MB."""

MAX_ERROR_BYTES = 64 * 1024
"""Of an error's body: it is read for a code and 300 characters."""

MAX_STREAM_BYTES = 1024 * 1024 * 1024
"""Of one stream, which is never held: no model writes so much, so it is no answer."""

SessionOf = Callable[[Target], aiohttp.ClientSession]
"""The pool that a target is called with."""

Refused = Callable[[Target, int, Mapping[str, str], Said], WattosError]
"""What a status other than 200 means on a wire."""

_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def post(
    session: aiohttp.ClientSession,
    target: Target,
    url: URL,
    body: bytes,
    *,
    headers: Mapping[str, str],
    times: aiohttp.ClientTimeout,
    refused: Refused,
) -> aiohttp.ClientResponse:
    """The response, whose status is 200; nobody is followed elsewhere. Raises: what any other status means."""
    try:
        response = await session.post(url, data=body, headers=headers, timeout=times, allow_redirects=False)
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise unreachable(target, exc) from exc
    if response.status == 200:
        return response
    try:
        said = said_in(await _up_to(response, MAX_ERROR_BYTES))
    except (aiohttp.ClientError, OSError):
        said = Said()
    finally:
        response.close()
    raise refused(target, response.status, response.headers, said)


async def whole_object(response: aiohttp.ClientResponse, target: Target) -> tuple[dict[str, msgspec.Raw], bytes]:
    """The JSON object of an answer, its values unread, and its bytes. Raises: UpstreamUnavailable, UpstreamTimeout."""
    try:
        if (response.content_length or MAX_ANSWER_BYTES + 1) <= MAX_ANSWER_BYTES and not _is_packed(response):
            data = await response.read()
        else:
            data = await _up_to(response, MAX_ANSWER_BYTES + 1)
    except (aiohttp.ClientError, OSError) as exc:
        raise unreachable(target, exc) from exc
    finally:
        done_with(response)
    if len(data) > MAX_ANSWER_BYTES:
        raise UpstreamUnavailable(f"{target.id} sends an answer without end")
    try:
        data.decode()  # raw values are not looked into, and must be text nevertheless
        return _object_decoder.decode(data), data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamUnavailable(f"{target.id} answered with something that is not JSON") from None


def done_with(response: aiohttp.ClientResponse) -> None:
    """A connection whose answer was not read to its end is of no further use."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def unreachable(target: Target, exc: Exception) -> WattosError:
    """What a failure of the connection means."""
    if isinstance(exc, TimeoutError):
        return UpstreamTimeout(f"{target.id} did not answer in time")
    if isinstance(exc, aiohttp.InvalidURL | ValueError):
        return UpstreamMisconfigured(f"{target.id} has an address that cannot be used")
    return UpstreamUnavailable(f"{target.id} could not be reached, or failed")


def mapping(value: object) -> dict[str, Any]:
    """A configuration's mapping; empty for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _is_packed(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("content-encoding", "identity") != "identity"


async def _up_to(response: aiohttp.ClientResponse, n_bytes: int) -> bytes:
    """At most so many bytes of the body, and the rest of the last piece."""
    pieces: list[bytes] = []
    async for piece in response.content.iter_any():
        pieces.append(piece)
        n_bytes -= len(piece)
        if n_bytes <= 0:
            break
    return b"".join(pieces)
