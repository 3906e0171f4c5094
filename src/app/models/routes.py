"""`/v1/models`."""

from typing import Literal

import msgspec
from litestar import get

from app.errors import ModelNotFound
from app.http.openapi.describe import described
from app.llm.catalog import Catalog
from plugins.contract.principal import Principal


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An alias, in OpenAI's shape. `created` is 0: an alias has no birthday."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "wattos"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them; OpenAI does not page this list."""

    data: list[Model]
    object: Literal["list"] = "list"


@get("/v1/models", operation_id="listModels", tags=["models"])
async def list_models(principal: Principal, catalog: Catalog) -> ModelList:
    """The aliases that this key may use."""
    return ModelList(data=[Model(id=alias) for alias in catalog.aliases() if principal.may_use(alias)])


@get(
    "/v1/models/{model:path}", operation_id="retrieveModel", tags=["models"], opt=described(codes=("model_not_found",))
)
async def retrieve_model(model: str, principal: Principal, catalog: Catalog) -> Model:
    """One alias. Names may hold slashes, as in `openai/gpt-4o-mini`."""
    alias = model.removeprefix("/")
    if alias not in catalog.aliases() or not principal.may_use(alias):
        raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those this key may use")
    return Model(id=alias)
