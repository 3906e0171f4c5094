"""What `parse_process` and its child say to each other. Light: the child imports it before anything else.

Both ways go frames: an unsigned 64-bit big-endian length and as many bytes of MessagePack. In: a `ParseRequest`, then
the file's bytes unless the request names a path. Out: `Read` once the text is there, then `Cut`; or, at any time,
`Refused`, which is the last.
"""

import struct

import msgspec

FRAME_LENGTH = struct.Struct(">Q")
MISSING_SOURCE = "missing_source"


class ParseLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What reading one file may take: wall-clock time, address space, passages."""

    timeout_s: float = 120.0
    """5,000 PDF pages take 25 s, 64 MB of DOCX XML about 40 s on one core; doubled for a busy one."""

    memory_bytes: int = 2 * 1024**3
    """The largest DOCX that is let in takes 1.3 GB with its tree, and shared libraries count too."""

    max_chunks: int = 50_000
    """20 million characters, the most that is read, make 26,000 full passages; short sections make more of them. Each
    costs about 0.2 s of embedding."""


class ParseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`path`: the file is there; None: its bytes are the next frame. `parent_pid`: whose death ends the child."""

    filename: str
    content_type: str | None
    path: str | None
    limits: ParseLimits
    parent_pid: int


class Read(msgspec.Struct, frozen=True, tag=True):
    """The file is read; what follows is cutting it into passages."""


class Cut(msgspec.Struct, frozen=True, tag=True):
    """The text, and its passages as (start, end, heading): their own text is cut from it by the parent."""

    text: str
    parser: str
    spans: list[tuple[int, int, str]]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Code and message of a `DocumentError`, or MISSING_SOURCE: the path does not open. `cause`: for our log alone."""

    code: str
    message: str = ""
    cause: str = ""


Reply = Read | Cut | Refused
