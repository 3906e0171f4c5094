"""`/v1/files`."""

from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.response import Stream

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, Order, PageRequest
from app.http.openapi.describe import Body, described
from app.http.pages import Page, page
from app.ids import decode_id
from app.knowledge.files.form import UploadForm
from app.knowledge.files.schemas import Deleted, FileOut, FileUpload
from app.knowledge.files.service import FilesService
from plugins.contract.principal import TenantId

FORM_BYTES = 1 << 20
"""What a form may have beside the file itself."""

MAX_FILES_A_PAGE = 500
"""4.3 ms of CPU (measured). OpenAI's limit is 10,000, which would hold the loop for 60; clients follow `has_more`."""

FileLimit = Annotated[int, Parameter(ge=1, le=10_000, description="How many at most; a page has up to 500.")]
UPLOAD = Body(kind=FileUpload, media_type="multipart/form-data")
READ = described(needs="documents:read", codes=("not_found",))
WRITE = described(needs="documents:write", codes=("not_found",))


@post(
    "/",
    operation_id="createFile",
    status_code=200,
    opt=described(needs="documents:write", body=UPLOAD, codes=("missing_field", "empty_file")),
)
async def create_file(
    request: Request[Any, Any, State], tenant_id: TenantId, actor: Actor, files: FilesService
) -> FileOut:
    """Upload one file as `multipart/form-data` with `file` and `purpose`."""
    async with aclosing(request.stream()) as body:
        form = UploadForm(request.content_type, body)
        filename, content_type = await form.open()
        stored = await files.upload(
            tenant_id, filename=filename, content_type=content_type, purpose=form.purpose, chunks=form, actor=actor
        )
    return FileOut.of(stored)


@get("/", operation_id="listFiles", opt=READ)
async def list_files(
    tenant_id: TenantId,
    files: FilesService,
    limit: FileLimit = DEFAULT_LIMIT,
    after: str | None = None,
    order: Order = "desc",
    purpose: str | None = None,
) -> Page[FileOut]:
    """The tenant's files."""
    wanted = PageRequest(
        limit=min(limit, MAX_FILES_A_PAGE), after=decode_id("file", after) if after else None, order=order
    )
    rows = await files.list(tenant_id, wanted, purpose=purpose)
    shown = [FileOut.of(file) for file in rows.items]
    return page(shown, [file.id for file in shown], has_more=rows.has_more)


@get("/{file_id:str}", operation_id="retrieveFile", opt=READ)
async def get_file(file_id: str, tenant_id: TenantId, files: FilesService) -> FileOut:
    """One file."""
    return FileOut.of(await files.get(tenant_id, decode_id("file", file_id)))


@get(
    "/{file_id:str}/content",
    operation_id="downloadFile",
    opt=described(needs="documents:read", answer=bytes, codes=("not_found",), headers=("content-disposition",)),
)
async def get_file_content(file_id: str, tenant_id: TenantId, files: FilesService) -> Stream:
    """Its bytes, as they came. Always as a download: a browser must not run what a tenant uploaded."""
    file, chunks = await files.content(tenant_id, decode_id("file", file_id))
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
        "x-content-type-options": "nosniff",
        "content-length": str(file.n_bytes),
    }
    return Stream(chunks, media_type="application/octet-stream", headers=headers)


@delete("/{file_id:str}", operation_id="deleteFile", status_code=200, opt=WRITE)
async def delete_file(file_id: str, tenant_id: TenantId, actor: Actor, files: FilesService) -> Deleted:
    """Delete a file: its text and its passages in every vector store go with it."""
    await files.delete(tenant_id, decode_id("file", file_id), actor=actor)
    return Deleted(id=file_id, object="file")


def files_router(*, max_file_bytes: int) -> Router:
    """The whole body may be larger than other bodies; Litestar stops reading past it."""
    return Router(
        "/v1/files",
        route_handlers=[create_file, list_files, get_file, get_file_content, delete_file],
        request_max_body_size=max_file_bytes + FORM_BYTES,
        tags=["files"],
    )
