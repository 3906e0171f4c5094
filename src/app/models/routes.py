"""`/v1/models`, and the configuration behind it."""

from datetime import datetime
from typing import Literal

import msgspec
from litestar import get, post

from app.audit.model import PLATFORM_CHAIN, Actor, Change
from app.audit.record import AuditLog
from app.errors import ModelNotFound
from app.http.openapi.describe import described
from app.llm.reload import Reloader
from app.llm.routing import Router
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


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in force. `warnings`: what it says that is not read."""

    loaded_at: datetime
    aliases: tuple[str, ...]
    warnings: tuple[str, ...]


@get("/v1/models", operation_id="listModels", tags=["models"], opt=described(needs="models:use"))
async def list_models(principal: Principal, router: Router) -> ModelList:
    """The aliases that this key may use."""
    return ModelList(data=[Model(id=alias) for alias in router.catalog.aliases() if principal.may_use(alias)])


@get(
    "/v1/models/{model:path}",
    operation_id="retrieveModel",
    tags=["models"],
    opt=described(needs="models:use", codes=("model_not_found",)),
)
async def retrieve_model(model: str, principal: Principal, router: Router) -> Model:
    """One alias. Names may hold slashes, as in `openai/gpt-4o-mini`."""
    alias = model.removeprefix("/")
    if not principal.may_use(alias) or router.catalog.find(alias) is None:
        raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those this key may use")
    return Model(id=alias)


@post(
    "/api/v1/models/reload",
    operation_id="reloadModels",
    status_code=200,
    tags=["models"],
    opt=described(needs="platform:manage", codes=("invalid_models_config",)),
)
async def reload_models(actor: Actor, reloader: Reloader, audit_log: AuditLog) -> Reloaded:
    """Read the file of MODELS_CONFIG again, as SIGHUP does. For the platform's administrator."""
    loaded = await reloader.reload()
    await audit_log.note(PLATFORM_CHAIN, actor, Change(action="models.reloaded", kind="models"))
    return Reloaded(loaded_at=loaded.loaded_at, aliases=loaded.aliases, warnings=loaded.warnings)
