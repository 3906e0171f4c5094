"""What `parse_process` and its child say to each other. Light: the child imports it before anything else.

Both ways go frames: an unsigned 64-bit big-endian length and as many bytes. In: a `ParseRequest`, then the file's
bytes unless the request names a path. Out: one `ParseReply`.
"""

import struct

import msgspec

from app.knowledge.ingestion.model import Document

FRAME_LENGTH = struct.Struct(">Q")
MISSING_SOURCE = "missing_source"


class ParseRequest(msgspec.Struct, frozen=True):
    """`path`: the file is there; None: its bytes are the next frame. `parent_pid`: whose death ends the child."""

    filename: str
    content_type: str | None
    path: str | None
    timeout_s: float
    memory_bytes: int
    parent_pid: int


class ParseReply(msgspec.Struct, frozen=True):
    """Either the document, or the code and message of a `DocumentError`, or MISSING_SOURCE: the path does not open."""

    document: Document | None = None
    code: str = ""
    message: str = ""
