"""`/v1/embeddings`."""

from typing import Any

from litestar import MediaType, Request, Response, post
from litestar.datastructures import State

from app.embeddings.schemas import EXAMPLES, EmbeddingCreate, EmbeddingList, encode_list, read_embedding_request
from app.embeddings.service import EmbeddingService
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import CACHED, TRAIL
from app.model_calls import trail_of
from plugins.contract.principal import Principal


@post(
    "/v1/embeddings",
    operation_id="createEmbedding",
    status_code=200,
    tags=["embeddings"],
    opt=described(
        needs="models:use",
        body=Body(kind=EmbeddingCreate, examples=EXAMPLES),
        answer=EmbeddingList,
        codes=(*MODEL_CALL, "unsupported_parameter", "embedder_unavailable", "embedder_busy"),
        headers=(*TRAIL, *CACHED),
    ),
)
async def create_embedding(
    request: Request[Any, Any, State], principal: Principal, embeddings: EmbeddingService
) -> Response[bytes]:
    """Embed texts, in their order."""
    asked, extra = read_embedding_request(await request.body())
    deadline_s = deadline_of(request.scope)
    embedded = await while_connected(request, embeddings.embed(principal, asked, extra, deadline_s))
    body = await encode_list(asked, embedded.vectors.rows, embedded.vectors.usage)
    return Response(body, media_type=MediaType.JSON, headers=trail_of(embedded, embedded.cost_nusd))
