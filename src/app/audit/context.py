"""Who acts, as route handlers receive it: `actor: Actor` is a dependency."""

from __future__ import annotations

from litestar import Request
from litestar.datastructures import State
from litestar.di import Provide

from app.audit.model import Actor
from app.http.context import REQUEST_ID, known_principal
from plugins.contract.principal import Principal


def provided_actor(anonymous: Principal | None) -> Provide:
    """Also where nobody is needed: then it is somebody with an address."""

    def provide(request: Request[object, object, State]) -> Actor:
        request_id = request.scope["state"].get(REQUEST_ID)
        return Actor.of(
            known_principal(request, anonymous),
            None if request.client is None else request.client.host,
            request_id if isinstance(request_id, str) else None,
        )

    return Provide(provide, sync_to_thread=False)
