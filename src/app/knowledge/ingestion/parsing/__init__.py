"""Bytes of a file → `Document`. The format is what the content says it is; the name decides only among text formats.

Every parser's library is imported on first use. Call `parse` in the process of `parse_process`, never on the loop:
these libraries are native code that reads hostile input.
"""

from collections.abc import Callable
from importlib import import_module

from app.knowledge.ingestion.errors import EmptyFile, FileTooComplex, ParseOutOfMemory
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing.formats import Format, detect

__all__ = ["Format", "detect", "parse"]


def parse(data: bytes, filename: str, content_type: str | None = None) -> Document:
    """Read the whole file. `content_type`: what the uploader said, a hint among text formats.

    Raises: DocumentError of any kind but ParseCrashed, ParseTimeout and TooManyPassages.
    """
    if not data.strip():
        raise EmptyFile("The file is empty.")
    file_format = detect(data, filename, content_type)
    parser: Callable[[bytes], Document] = import_module(f"{__name__}.{file_format}").parse
    try:
        return parser(data)
    except MemoryError as exc:
        raise ParseOutOfMemory(f"Reading this {file_format} file takes more memory than it may have.") from exc
    except RecursionError as exc:
        raise FileTooComplex(f"This {file_format} file is nested too deeply.") from exc
