"""`/v1/vector_stores`."""

from typing import Any

from litestar import Request, Router, delete, get, post
from litestar.datastructures import State

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, Order, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.knowledge.retrieval.service import PassageRetriever
from app.knowledge.stores.model import FileStatus
from app.knowledge.stores.schemas import (
    ADD_EXAMPLES,
    CREATE_EXAMPLES,
    SEARCH_EXAMPLES,
    UPDATE_EXAMPLES,
    FileAdd,
    FileContent,
    SearchPage,
    SearchRequest,
    StoreCreate,
    StoreDeleted,
    StoreFileOut,
    StoreOut,
    StoreUpdate,
    TextPart,
    search_terms,
)
from app.knowledge.stores.service import VectorStoresService
from plugins.contract.principal import TenantId

AnyRequest = Request[Any, Any, State]

READ = described(needs="documents:read", codes=("not_found",))
WRITE = described(needs="documents:write", codes=("not_found",))


@post(
    "/",
    operation_id="createVectorStore",
    status_code=200,
    opt=described(
        needs="documents:write",
        body=Body(kind=StoreCreate, is_required=False, examples=CREATE_EXAMPLES),
        codes=("not_found", "wrong_model_kind"),
    ),
)
async def create_store(request: AnyRequest, tenant_id: TenantId, actor: Actor, stores: VectorStoresService) -> StoreOut:
    """Make a vector store, with files or without."""
    asked = decode_body(await request.body() or b"{}", StoreCreate)
    made = await stores.create(
        tenant_id,
        name=asked.name or "",
        metadata=asked.metadata or {},
        file_ids=[decode_id("file", file_id) for file_id in asked.file_ids or ()],
        embedding_model=asked.embedding_model,
        actor=actor,
    )
    return StoreOut.of(made)


@get("/", operation_id="listVectorStores", opt=READ)
async def list_stores(
    tenant_id: TenantId,
    stores: VectorStoresService,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
    order: Order = "desc",
) -> Page[StoreOut]:
    """The tenant's vector stores."""
    wanted = PageRequest(limit=limit, after=decode_id("vs", after) if after else None, order=order)
    rows = await stores.list(tenant_id, wanted)
    shown = [StoreOut.of(found) for found in rows.items]
    return page(shown, [found.id for found in shown], has_more=rows.has_more)


@get("/{store_id:str}", operation_id="getVectorStore", opt=READ)
async def get_store(store_id: str, tenant_id: TenantId, stores: VectorStoresService) -> StoreOut:
    """One vector store."""
    return StoreOut.of(await stores.get(tenant_id, decode_id("vs", store_id)))


@post(
    "/{store_id:str}",
    operation_id="modifyVectorStore",
    status_code=200,
    opt=described(needs="documents:write", body=Body(kind=StoreUpdate, examples=UPDATE_EXAMPLES), codes=("not_found",)),
)
async def update_store(
    request: AnyRequest, store_id: str, tenant_id: TenantId, actor: Actor, stores: VectorStoresService
) -> StoreOut:
    """Change name or metadata."""
    asked = decode_body(await request.body(), StoreUpdate)
    changed = await stores.update(
        tenant_id, decode_id("vs", store_id), name=asked.name, metadata=asked.metadata, actor=actor
    )
    return StoreOut.of(changed)


@delete("/{store_id:str}", operation_id="deleteVectorStore", status_code=200, opt=WRITE)
async def delete_store(store_id: str, tenant_id: TenantId, actor: Actor, stores: VectorStoresService) -> StoreDeleted:
    """Delete a vector store with its passages; the files stay."""
    await stores.delete(tenant_id, decode_id("vs", store_id), actor=actor)
    return StoreDeleted(id=store_id, object="vector_store.deleted")


@post(
    "/{store_id:str}/files",
    operation_id="createVectorStoreFile",
    status_code=200,
    opt=described(
        needs="documents:write", body=Body(kind=FileAdd, examples=ADD_EXAMPLES), codes=("not_found", "conflict")
    ),
)
async def add_file(
    request: AnyRequest, store_id: str, tenant_id: TenantId, actor: Actor, stores: VectorStoresService
) -> StoreFileOut:
    """Add a file: its ingestion begins in the background."""
    asked = decode_body(await request.body(), FileAdd)
    file_id = decode_id("file", asked.file_id)
    added = await stores.add_file(tenant_id, decode_id("vs", store_id), file_id, asked.attributes or {}, actor=actor)
    return StoreFileOut.of(added)


@get("/{store_id:str}/files", operation_id="listVectorStoreFiles", opt=READ)
async def list_files(
    store_id: str,
    tenant_id: TenantId,
    stores: VectorStoresService,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
    order: Order = "desc",
    filter: FileStatus | None = None,
) -> Page[StoreFileOut]:
    """The files of a store, with their progress."""
    wanted = PageRequest(limit=limit, after=decode_id("file", after) if after else None, order=order)
    rows = await stores.list_files(tenant_id, decode_id("vs", store_id), wanted, status=filter)
    shown = [StoreFileOut.of(found) for found in rows.items]
    return page(shown, [found.id for found in shown], has_more=rows.has_more)


@get("/{store_id:str}/files/{file_id:str}", operation_id="getVectorStoreFile", opt=READ)
async def get_file(store_id: str, file_id: str, tenant_id: TenantId, stores: VectorStoresService) -> StoreFileOut:
    """One file of a store, with its progress."""
    return StoreFileOut.of(await stores.get_file(tenant_id, decode_id("vs", store_id), decode_id("file", file_id)))


@get(
    "/{store_id:str}/files/{file_id:str}/content",
    operation_id="retrieveVectorStoreFileContent",
    opt=described(needs="documents:read", codes=("not_found", "not_ingested")),
)
async def get_file_content(
    store_id: str, file_id: str, tenant_id: TenantId, stores: VectorStoresService
) -> FileContent:
    """The stored text: what citations refer to."""
    text = await stores.file_text(tenant_id, decode_id("vs", store_id), decode_id("file", file_id))
    return FileContent(data=[TextPart(text=text)])


@delete("/{store_id:str}/files/{file_id:str}", operation_id="deleteVectorStoreFile", status_code=200, opt=WRITE)
async def remove_file(
    store_id: str, file_id: str, tenant_id: TenantId, actor: Actor, stores: VectorStoresService
) -> StoreDeleted:
    """Take a file out of a store; the file itself stays."""
    await stores.remove_file(tenant_id, decode_id("vs", store_id), decode_id("file", file_id), actor=actor)
    return StoreDeleted(id=file_id, object="vector_store.file.deleted")


@post(
    "/{store_id:str}/search",
    operation_id="searchVectorStore",
    status_code=200,
    opt=described(
        needs="documents:read",
        body=Body(kind=SearchRequest, examples=SEARCH_EXAMPLES),
        codes=(
            *("missing_field", "unsupported_parameter", "wrong_model_kind", "context_length_exceeded"),
            "not_found",
        ),
    ),
)
async def search(request: AnyRequest, store_id: str, tenant_id: TenantId, retriever: PassageRetriever) -> SearchPage:
    """The nearest passages of a store; those that share words with the query while the embedder is away."""
    asked = decode_body(await request.body(), SearchRequest)
    queries, threshold = search_terms(asked)
    found = await retriever.search(
        tenant_id, [decode_id("vs", store_id)], queries, max_results=asked.max_num_results, score_threshold=threshold
    )
    return SearchPage.of(queries, found)


router = Router(
    "/v1/vector_stores",
    route_handlers=[
        create_store,
        list_stores,
        get_store,
        update_store,
        delete_store,
        add_file,
        list_files,
        get_file,
        get_file_content,
        remove_file,
        search,
    ],
    tags=["vector stores"],
)
