"""`/api/v1/users`: a tenant's users, for its administrators and the platform's."""

from typing import Annotated, Any

from litestar import Request, Router, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.accounts.users.schemas import UPDATE_EXAMPLES, USER_EXAMPLES, UserCreate, UserOut, UserUpdate
from app.accounts.users.service import UsersService
from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.tenancy import own_tenant, tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

NAMED = described(needs="users:manage", codes=("not_found",))


@post(
    "/",
    operation_id="createUser",
    opt=described(
        needs="users:manage",
        body=Body(kind=UserCreate, examples=USER_EXAMPLES),
        codes=("not_found", "conflict", "missing_field", "weak_password"),
    ),
)
async def create_user(request: AnyRequest, principal: Principal, actor: Actor, users: UsersService) -> UserOut:
    """Make a user, with a role no higher than your own."""
    asked = decode_body(await request.body(), UserCreate)
    return UserOut.of(await users.create(principal, actor, tenant_of(principal, asked.tenant_id), asked))


@get("/", operation_id="listUsers", opt=described(needs="users:manage", codes=("not_found", "missing_field")))
async def list_users(
    principal: Principal,
    users: UsersService,
    of_tenant: Annotated[str | None, QueryParameter(name="tenant_id")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[UserOut]:
    """The tenant's users, newest first."""
    wanted = PageRequest(limit=limit, after=decode_id("user", after) if after else None)
    rows = await users.list(tenant_of(principal, of_tenant), wanted)
    shown = [UserOut.of(user) for user in rows.items]
    return page(shown, [user.id for user in shown], has_more=rows.has_more)


@get("/{id:str}", operation_id="getUser", opt=NAMED)
async def get_user(id: str, principal: Principal, users: UsersService) -> UserOut:
    """One user."""
    return UserOut.of(await users.get(own_tenant(principal), decode_id("user", id)))


@patch(
    "/{id:str}",
    operation_id="updateUser",
    opt=described(
        needs="users:manage",
        body=Body(kind=UserUpdate, examples=UPDATE_EXAMPLES),
        codes=("not_found", "conflict", "weak_password"),
    ),
)
async def update_user(id: str, request: AnyRequest, principal: Principal, actor: Actor, users: UsersService) -> UserOut:
    """Change a user. A new role, or being disabled, is in force within a second."""
    asked = decode_body(await request.body(), UserUpdate)
    return UserOut.of(await users.update(principal, actor, own_tenant(principal), decode_id("user", id), asked))


@delete("/{id:str}", operation_id="deleteUser", opt=NAMED)
async def delete_user(id: str, principal: Principal, actor: Actor, users: UsersService, erase: bool = False) -> None:
    """Delete a user with its keys and sessions. With `erase` the audit log forgets who it was, and stays whole."""
    await users.delete(principal, actor, own_tenant(principal), decode_id("user", id), erase=erase)


router = Router(
    "/api/v1/users", route_handlers=[create_user, list_users, get_user, update_user, delete_user], tags=["accounts"]
)
