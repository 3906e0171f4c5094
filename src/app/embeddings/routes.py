"""`/v1/embeddings`."""

from typing import Any

from litestar import Request, Response, post
from litestar.datastructures import State

from app.embeddings.schemas import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, encoded
from app.embeddings.service import EmbeddingService
from app.http.body import decode_body
from app.http.disconnect import while_connected
from app.llm.chain import Embedded
from plugins.contract.principal import Principal


@post("/v1/embeddings", operation_id="createEmbedding", status_code=200, tags=["embeddings"])
async def create_embedding(
    request: Request[Any, Any, State], principal: Principal, embeddings: EmbeddingService
) -> Response[EmbeddingList]:
    """Embed texts, in their order."""
    asked = decode_body(await request.body(), EmbeddingRequest)
    embedded = await while_connected(request, embeddings.embed(principal, asked))
    return Response(_listed(asked, embedded), headers=_headers(embedded))


def _listed(asked: EmbeddingRequest, embedded: Embedded) -> EmbeddingList:
    rows = embedded.vectors.rows
    n_tokens = embedded.vectors.usage.input_tokens if embedded.vectors.usage else 0
    return EmbeddingList(
        data=[Embedding(index=i, embedding=encoded(row, asked.encoding_format)) for i, row in enumerate(rows)],
        model=asked.model,
        usage=EmbeddingUsage(prompt_tokens=n_tokens, total_tokens=n_tokens),
    )


def _headers(embedded: Embedded) -> dict[str, str]:
    headers = {"x-wattos-target": embedded.target.id, "x-wattos-attempts": str(embedded.attempts)}
    if embedded.cost_nusd is not None:
        headers["x-wattos-cost-nusd"] = str(embedded.cost_nusd)
    return headers
