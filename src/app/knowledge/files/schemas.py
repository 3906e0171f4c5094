"""Files on the wire, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from app.ids import encode_id
from app.knowledge.files.model import Purpose, StoredFile


class FileUpload(msgspec.Struct, frozen=True, kw_only=True):
    """The form of an upload: the file, and what it is for."""

    # Told in the OpenAPI document only: `form` reads the parts as they stream in.
    file: Annotated[bytes, msgspec.Meta(extra_json_schema={"format": "binary"})]
    purpose: Purpose


class FileOut(msgspec.Struct, frozen=True, kw_only=True):
    """`created_at`: epoch seconds. `status` is OpenAI's deprecated field, which its clients still ask for."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    object: Literal["file"] = "file"

    @classmethod
    def of(cls, file: StoredFile) -> FileOut:
        return cls(
            id=encode_id("file", file.id),
            bytes=file.n_bytes,
            created_at=int(file.created_at.timestamp()),
            filename=file.filename,
            purpose=file.purpose,
        )


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: bool = True
