"""`/api/v1/auth`: signing in and out, and who one is."""

from typing import Any

from litestar import Request, Router, get, post
from litestar.datastructures import State

from app.accounts.sign_in.schemas import (
    PASSWORD_EXAMPLES,
    REFRESH_EXAMPLES,
    SIGN_IN_EXAMPLES,
    MeOut,
    PasswordChange,
    Refresh,
    SignIn,
    TokensOut,
)
from app.accounts.sign_in.service import SignInService
from app.accounts.users.schemas import UserOut
from app.audit.model import Actor
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

DATABASE = ("database_unavailable", "temporarily_unavailable")


@post(
    "/login",
    operation_id="signIn",
    status_code=200,
    opt={
        "public": True,
        **described(
            body=Body(kind=SignIn, examples=SIGN_IN_EXAMPLES), codes=("sign_in_failed", "sign_in_blocked", *DATABASE)
        ),
    },
)
async def sign_in(request: AnyRequest, actor: Actor, signing_in: SignInService) -> TokensOut:
    """Sign in with a password. After five failures the next tries must wait, longer each time."""
    asked = decode_body(await request.body(), SignIn)
    tokens = await signing_in.sign_in(actor, slug=asked.tenant, email=asked.email, password=asked.password)
    return TokensOut.of(tokens)


@post(
    "/refresh",
    operation_id="refreshTokens",
    status_code=200,
    opt={
        "public": True,
        **described(body=Body(kind=Refresh, examples=REFRESH_EXAMPLES), codes=("sign_in_failed", *DATABASE)),
    },
)
async def refresh_tokens(request: AnyRequest, actor: Actor, signing_in: SignInService) -> TokensOut:
    """New tokens for the last refresh token. Used twice, it ends the session: somebody else had it, too."""
    asked = decode_body(await request.body(), Refresh)
    return TokensOut.of(await signing_in.refresh(actor, asked.refresh_token))


@post("/logout", operation_id="signOut", status_code=204, opt=described(needs="self:read"))
async def sign_out(principal: Principal, actor: Actor, signing_in: SignInService) -> None:
    """End the session: its access token is dead within a second, its refresh token at once."""
    await signing_in.sign_out(principal, actor)


@post(
    "/password",
    operation_id="changePassword",
    status_code=204,
    opt=described(
        needs="self:read",
        body=Body(kind=PasswordChange, examples=PASSWORD_EXAMPLES),
        codes=("sign_in_failed", "sign_in_blocked", "weak_password"),
    ),
)
async def change_password(request: AnyRequest, principal: Principal, actor: Actor, signing_in: SignInService) -> None:
    """Change your own password. All sessions end, this one too."""
    asked = decode_body(await request.body(), PasswordChange)
    await signing_in.change_password(principal, actor, current=asked.current_password, new=asked.new_password)


@get("/me", operation_id="getMe", opt=described(needs="self:read"))
async def get_me(principal: Principal, signing_in: SignInService) -> MeOut:
    """Who this credential is, and what it may do."""
    user = await signing_in.me(principal)
    return MeOut.of(principal, None if user is None else UserOut.of(user))


router = Router(
    "/api/v1/auth", route_handlers=[sign_in, refresh_tokens, sign_out, change_password, get_me], tags=["accounts"]
)
