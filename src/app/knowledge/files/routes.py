"""`/v1/files`."""

from collections.abc import AsyncIterator
from typing import Any, cast, get_args
from urllib.parse import quote

import msgspec
from litestar import Request, Router, delete, get, post
from litestar.datastructures import State, UploadFile
from litestar.response import Stream

from app.errors import InvalidRequest
from app.http.pages import DEFAULT_LIMIT, Limit, Order, Page, PageRequest, page
from app.ids import decode_id
from app.knowledge.files.model import Purpose
from app.knowledge.files.schemas import Deleted, FileOut
from app.knowledge.files.service import FilesService
from plugins.contract.principal import TenantId

READ_BYTES = 1 << 20
FORM_BYTES = 1 << 20
"""What a form may have beside the file itself."""


@post("/", operation_id="createFile", status_code=200)
async def create_file(request: Request[Any, Any, State], tenant_id: TenantId, files: FilesService) -> FileOut:
    """Upload one file as `multipart/form-data` with `file` and `purpose`."""
    form = await request.form()
    try:
        upload, purpose = form.get("file"), _purpose(form.get("purpose"))
        if not isinstance(upload, UploadFile):
            raise InvalidRequest("file is missing: send multipart/form-data", param="file", code="missing_field")
        stored = await files.upload(
            tenant_id,
            filename=upload.filename,
            content_type=upload.content_type,
            purpose=purpose,
            chunks=_pieces(upload),
        )
    finally:
        await form.close()
    return FileOut.of(stored)


@get("/", operation_id="listFiles")
async def list_files(
    tenant_id: TenantId,
    files: FilesService,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
    order: Order = "desc",
    purpose: str | None = None,
) -> Page[FileOut]:
    """The tenant's files."""
    wanted = PageRequest(limit=limit, after=decode_id("file", after) if after else None, order=order)
    rows = await files.list(tenant_id, wanted, purpose=purpose)
    shown = [FileOut.of(file) for file in rows.items]
    return page(shown, [file.id for file in shown], has_more=rows.has_more)


@get("/{file_id:str}", operation_id="retrieveFile")
async def get_file(file_id: str, tenant_id: TenantId, files: FilesService) -> FileOut:
    """One file."""
    return FileOut.of(await files.get(tenant_id, decode_id("file", file_id)))


@get("/{file_id:str}/content", operation_id="downloadFile")
async def get_file_content(file_id: str, tenant_id: TenantId, files: FilesService) -> Stream:
    """Its bytes, as they came. Always as a download: a browser must not run what a tenant uploaded."""
    file, chunks = await files.content(tenant_id, decode_id("file", file_id))
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
        "x-content-type-options": "nosniff",
        "content-length": str(file.n_bytes),
    }
    return Stream(chunks, media_type="application/octet-stream", headers=headers)


@delete("/{file_id:str}", operation_id="deleteFile", status_code=200)
async def delete_file(file_id: str, tenant_id: TenantId, files: FilesService) -> Deleted:
    """Delete a file: its text and its passages in every vector store go with it."""
    await files.delete(tenant_id, decode_id("file", file_id))
    return Deleted(id=file_id, object="file")


def _purpose(given: object) -> Purpose:
    try:
        return cast(Purpose, msgspec.convert(given, Purpose))
    except msgspec.ValidationError:
        raise InvalidRequest(f"purpose must be one of {', '.join(get_args(Purpose))}", param="purpose") from None


async def _pieces(upload: UploadFile) -> AsyncIterator[bytes]:
    while piece := await upload.read(READ_BYTES):
        yield piece


def files_router(*, max_file_bytes: int) -> Router:
    """The whole body may be larger than other bodies; Litestar stops reading past it."""
    return Router(
        "/v1/files",
        route_handlers=[create_file, list_files, get_file, get_file_content, delete_file],
        request_max_body_size=max_file_bytes + FORM_BYTES,
        tags=["files"],
    )
