"""An upload's `multipart/form-data` as it streams in: the file's bytes pass through, everything else is thrown away.

Litestar's own parser holds a whole form: fields of any size and a thousand small files in memory, a large file in
/tmp. Measured: a `purpose` of 200 MB took 770 MB of memory. Here a piece is what the socket gave: at most 64 KiB.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import cast, get_args

import msgspec
from litestar.exceptions import HTTPException, InternalServerException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE
from multipart import (  # type: ignore[import-untyped]  # no py.typed; what Litestar parses with
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
)

from app.errors import BodyTooLarge, InvalidRequest
from app.knowledge.files.model import Purpose
from plugins.contract.requests import CLIENT_CLOSED_REQUEST

MAX_PARTS = 32
"""OpenAI's form has four: `file`, `purpose` and two of `expires_after`."""

MAX_PURPOSE_BYTES = 64
"""Three times the longest that is one."""


class UploadForm:
    """One upload under way: `open` it, iterate for the file's bytes, then ask its `purpose`, which may come last."""

    def __init__(self, content_type: tuple[str, dict[str, str]], body: AsyncIterator[bytes]) -> None:
        """`content_type`: Litestar's, with its options. `body` ends, or gives an empty piece, at its end.

        Raises: InvalidRequest when it is no form.
        """
        kind, options = content_type
        if kind != "multipart/form-data":
            raise _no_file()
        try:
            self._parser = PushMultipartParser(options.get("boundary", ""), max_segment_count=MAX_PARTS)
        except MultipartError:
            raise _malformed() from None
        self._body = body
        self._events: deque[MultipartSegment | bytes | None] = deque()
        """A part's head, its bytes, and None at its end."""
        self._purpose: Purpose | None = None

    async def open(self) -> tuple[str, str | None]:
        """Read up to the file. Returns: its name and type as the client says. Raises: InvalidRequest without a file."""
        while (part := await self._part()) is not None:
            if _is_file(part):
                return part.filename or "", part.content_type
            await self._field(part)
        raise _no_file()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Raises: InvalidRequest, BodyTooLarge, HTTPException 499 when the client leaves."""
        data = await self._data()
        if data is not None:
            return data
        while (part := await self._part()) is not None:
            if _is_file(part):
                raise InvalidRequest("send one file at a time", param="file")
            await self._field(part)
        raise StopAsyncIteration

    def purpose(self) -> Purpose:
        """Raises: InvalidRequest when the form had none."""
        if self._purpose is None:
            raise _no_purpose()
        return self._purpose

    async def _field(self, part: MultipartSegment) -> None:
        value = b""
        while (data := await self._data()) is not None:
            if len(value) <= MAX_PURPOSE_BYTES:
                value += data
        if part.name == "purpose":
            if self._purpose is not None:
                raise InvalidRequest("send one purpose", param="purpose")
            self._purpose = _purpose(value.decode(errors="replace"))

    async def _part(self) -> MultipartSegment | None:
        """The next part's head; None at the end of the form."""
        while not self._events:
            if not await self._read():
                return None
        part = self._events.popleft()
        assert not isinstance(part, bytes)  # the parser gives a part's head before its bytes
        return part

    async def _data(self) -> bytes | None:
        """The next bytes of this part; None at its end. (A form that ends before is the parser's error.)"""
        while not self._events:
            await self._read()
        return cast("bytes | None", self._events.popleft())

    async def _read(self) -> bool:
        try:
            piece = await anext(self._body, b"")
        except InternalServerException:  # Litestar's word for a client that left
            raise HTTPException("the client left", status_code=CLIENT_CLOSED_REQUEST) from None
        except HTTPException as exc:
            if exc.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
                raise BodyTooLarge("the request is larger than a file may be (MAX_FILE_BYTES)") from None
            raise
        try:
            self._events.extend(self._parser.parse(piece))
        except MultipartError:
            raise _malformed() from None
        return bool(piece)


def _is_file(part: MultipartSegment) -> bool:
    return part.name == "file" and part.filename is not None


def _purpose(given: str) -> Purpose:
    try:
        return cast(Purpose, msgspec.convert(given, Purpose))
    except msgspec.ValidationError:
        raise _no_purpose() from None


def _no_purpose() -> InvalidRequest:
    return InvalidRequest(f"purpose must be one of {', '.join(get_args(Purpose))}", param="purpose")


def _no_file() -> InvalidRequest:
    return InvalidRequest(
        "file is missing: send multipart/form-data with file and purpose", param="file", code="missing_field"
    )


def _malformed() -> InvalidRequest:
    return InvalidRequest("the body is not valid multipart/form-data")
