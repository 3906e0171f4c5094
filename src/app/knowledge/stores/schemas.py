"""Vector stores on the wire, in OpenAI's shapes; `progress` is ours."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from app.errors import InvalidRequest
from app.grounding import RetrievalMode
from app.ids import encode_id
from app.knowledge.retrieval.model import Found, Hit
from app.knowledge.stores.model import FileCounts, FileStatus, Stage, StoreFile, VectorStore

MAX_FILES_AT_ONCE = 500
"""OpenAI's own limit for a batch."""

MAX_QUERIES = 16
"""In one search. Each is embedded (15 ms) and compared with every passage."""

Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]
"""OpenAI's limits: 16 pairs, keys of 64 characters, values of 512."""

Attributes = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], str | int | float | bool], msgspec.Meta(max_length=16)
]


class StoreCreate(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    file_ids: Annotated[list[str], msgspec.Meta(max_length=MAX_FILES_AT_ONCE)] | None = None
    metadata: Metadata | None = None
    embedding_model: str | None = None


class StoreUpdate(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    metadata: Metadata | None = None


class FileAdd(msgspec.Struct, frozen=True, kw_only=True):
    file_id: str
    attributes: Attributes | None = None


class RankingOptions(msgspec.Struct, frozen=True, kw_only=True):
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


Query = Annotated[str, msgspec.Meta(min_length=1)]


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    query: Query | Annotated[list[Query], msgspec.Meta(min_length=1, max_length=MAX_QUERIES)]
    max_num_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None
    filters: dict[str, Any] | None = None


FILE_EXAMPLE = "file_019a2b3c4d5e7f8091a2b3c4d5e6f708"
CREATE_EXAMPLES = {"with files": {"name": "Handbook", "file_ids": [FILE_EXAMPLE], "metadata": {"team": "support"}}}
UPDATE_EXAMPLES = {"new name": {"name": "Handbook 2030"}}
ADD_EXAMPLES = {"with attributes": {"file_id": FILE_EXAMPLE, "attributes": {"language": "de"}}}
SEARCH_EXAMPLES = {
    "one query": {"query": "How long is the warranty?", "max_num_results": 5},
    "good hits only": {"query": ["warranty", "guarantee"], "ranking_options": {"score_threshold": 0.8}},
}


class StoreOut(msgspec.Struct, frozen=True, kw_only=True):
    """`usage_bytes`: text of the store's passages. `status` is `in_progress` while a file is."""

    id: str
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["in_progress", "completed"]
    last_active_at: int
    metadata: dict[str, str]
    embedding_model: str
    expires_at: int | None = None
    object: Literal["vector_store"] = "vector_store"

    @classmethod
    def of(cls, found: VectorStore) -> StoreOut:
        return cls(
            id=encode_id("vs", found.id),
            created_at=int(found.created_at.timestamp()),
            name=found.name,
            usage_bytes=found.n_bytes,
            file_counts=found.file_counts,
            status="in_progress" if found.file_counts.in_progress else "completed",
            last_active_at=int(found.last_active_at.timestamp()),
            metadata=dict(found.metadata),
            embedding_model=found.embedding_model,
        )


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's three codes; `reason` is our own, stable one."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str
    reason: str


class ProgressOut(msgspec.Struct, frozen=True, kw_only=True):
    """`done` of `total` passages are embedded. `total` is 0 until the document is cut."""

    stage: Stage
    done: int
    total: int


class StoreFileOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: FileStatus
    last_error: LastError | None
    attributes: dict[str, str | float | bool]
    progress: ProgressOut
    object: Literal["vector_store.file"] = "vector_store.file"

    @classmethod
    def of(cls, found: StoreFile) -> StoreFileOut:
        return cls(
            id=encode_id("file", found.file_id),
            created_at=int(found.created_at.timestamp()),
            vector_store_id=encode_id("vs", found.store_id),
            usage_bytes=found.n_bytes,
            status=found.status,
            last_error=_last_error(found),
            attributes=dict(found.attributes),
            progress=ProgressOut(stage=found.stage, done=found.n_done, total=found.n_total),
        )


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    type: Literal["text"] = "text"


class FileContent(msgspec.Struct, frozen=True, kw_only=True):
    """The stored text of a file: what `start` and `end` of citations refer to."""

    data: list[TextPart]
    has_more: bool = False
    next_page: None = None
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A passage. `score`: cosine similarity; where it was found by words, the share of them, 0 to 1.

    `start`, `end`: its place in the stored text, ours.
    """

    file_id: str
    filename: str
    score: float
    content: list[TextPart]
    start: int
    end: int
    attributes: dict[str, str | float | bool]

    @classmethod
    def of(cls, hit: Hit) -> SearchResult:
        passage = hit.passage
        return cls(
            file_id=passage.file_id,
            filename=passage.filename,
            attributes=dict(hit.attributes),
            score=round(passage.score, 4),
            content=[TextPart(text=passage.text)],
            start=passage.start,
            end=passage.start + len(passage.text),
        )


class SearchTrail(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: found by words, as the embedder is away."""

    retrieval: RetrievalMode


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    search_query: list[str]
    data: list[SearchResult]
    x_wattos: SearchTrail
    has_more: bool = False
    next_page: None = None
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"

    @classmethod
    def of(cls, queries: list[str], found: Found) -> SearchPage:
        data = [SearchResult.of(hit) for hit in found.hits]
        return cls(search_query=queries, data=data, x_wattos=SearchTrail(retrieval=found.mode))


class StoreDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: bool = True


def _last_error(found: StoreFile) -> LastError | None:
    if found.error_code is None:
        return None
    code: Literal["server_error", "unsupported_file", "invalid_file"] = "invalid_file"
    if found.error_code == "internal_error":
        code = "server_error"
    elif found.error_code == "unsupported_file":
        code = "unsupported_file"
    return LastError(code=code, message=found.error_message or "", reason=found.error_code)


def search_terms(asked: SearchRequest) -> tuple[list[str], float]:
    """Returns: the queries, and the least score. Raises: InvalidRequest for what is not searched by yet."""
    if asked.filters is not None:
        raise InvalidRequest("filters are not supported yet", param="filters", code="unsupported_parameter")
    queries = [asked.query] if isinstance(asked.query, str) else asked.query
    if not all(query.strip() for query in queries):
        raise InvalidRequest("query is empty", param="query", code="missing_field")
    return queries, asked.ranking_options.score_threshold if asked.ranking_options else 0.0
