"""The rules of signing in. Every refusal reads alike: nobody learns which tenants and users there are."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.accounts.passwords import Passwords, require_strong
from app.accounts.sign_in import store, throttle
from app.accounts.sign_in.model import Candidate, Session, Tokens
from app.accounts.users import store as users
from app.accounts.users.model import User
from app.accounts.users.service import folded_email
from app.audit.model import PLATFORM_CHAIN, Actor, Change
from app.audit.record import record
from app.database.engine import Database, Role
from app.errors import SignInBlocked, SignInFailed
from app.ids import new_id
from plugins.contract.access_tokens import AccessTokens
from plugins.contract.credentials import hash_key
from plugins.contract.errors import PermissionDenied
from plugins.contract.principal import Principal

REFRESH_PREFIX = "rt-wattos-"
_N_RANDOM_BYTES = 32

WRONG = "wrong tenant, e-mail address or password"
OVER = "this refresh token is not valid (any more): sign in again"


class SignInService:
    """Sign-ins and what follows from them."""

    def __init__(
        self, database: Database, passwords: Passwords, access_tokens: AccessTokens, *, session_ttl_s: float
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._session_ttl = timedelta(seconds=session_ttl_s)

    async def sign_in(self, actor: Actor, *, slug: str, email: str, password: str) -> Tokens:
        """Raises: SignInFailed, SignInBlocked after too many failures."""
        email = folded_email(email)
        name = throttle.name_subject(slug, email)
        limits = {name: throttle.FREE_FAILURES}
        if actor.address:
            limits[throttle.address_subject(actor.address)] = throttle.FREE_FAILURES_OF_ADDRESS
        async with self._database.role(Role.SIGN_IN) as session:
            waiting_s = throttle.wait_s(await store.failures(session, [*limits]), datetime.now(UTC), limits)
            found = await store.candidate(session, slug, email)
            if waiting_s <= 0:
                # Counted before it is checked: a thousand tries at once are a thousand, not one.
                await store.count_failure(session, [*limits], throttle.FORGOTTEN_AFTER)
        if waiting_s > 0:  # the failures that led here are in the audit log; floods of tries do not fill it
            raise SignInBlocked("too many failed sign-ins: wait", retry_after_s=waiting_s)
        is_right = await self._passwords.is_right(password, found.password_hash)
        if not is_right or found.is_disabled or found.tenant_id is None or found.user_id is None:
            await self._note_failure(actor, found)
            raise SignInFailed(WRONG)
        async with self._database.role(Role.SIGN_IN) as session:
            await store.forget_failures(session, name)
            await store.take_back_failure(session, [subject for subject in limits if subject != name])
        return await self._begun(actor, found.tenant_id, found.user_id)

    async def refresh(self, actor: Actor, refresh_token: str) -> Tokens:
        """New tokens for one that was not used before. Its second use ends the whole session. Raises: SignInFailed."""
        token_hash = hash_key(refresh_token)
        async with self._database.role(Role.SIGN_IN) as session:
            known = await store.find_refresh_token(session, token_hash)
        if known is None:
            raise SignInFailed(OVER)
        fresh = _new_refresh_token()
        async with self._database.tenant(known.tenant_id) as session:
            is_first_use = await store.use_refresh_token(session, known.tenant_id, token_hash)
            living = await store.living_session(session, known.tenant_id, known.session_id)
            if is_first_use and living is not None:
                await store.insert_refresh_token(session, known.tenant_id, living.id, hash_key(fresh))
                return self._handed_out(living, fresh)
            if not is_first_use:
                owner = await store.revoke_session(session, known.tenant_id, known.session_id)
                if owner is not None:
                    replayed = Change(action="session.replayed", kind="user", id=owner)
                    await record(session, known.tenant_id, actor, replayed)
        raise SignInFailed(OVER)

    async def sign_out(self, principal: Principal, actor: Actor) -> None:
        """End the session of the access token. Raises: PermissionDenied for another kind of credential."""
        tenant_id, _ = self._user_of(principal)
        if principal.session_id is None:
            raise PermissionDenied("there is no session to end: this credential did not sign in here")
        async with self._database.tenant(tenant_id) as session:
            owner = await store.revoke_session(session, tenant_id, principal.session_id)
            if owner is not None:
                await record(session, tenant_id, actor, Change(action="session.revoked", kind="user", id=owner))

    async def change_password(self, principal: Principal, actor: Actor, *, current: str, new: str) -> None:
        """One's own; all sessions end. Raises: SignInFailed for a wrong current one, InvalidRequest for a weak one."""
        tenant_id, user_id = self._user_of(principal)
        if principal.session_id is None:
            raise PermissionDenied("sign in to change your password")
        require_strong(new)
        subject = throttle.name_subject("own password", user_id.hex)
        limits = {subject: throttle.FREE_FAILURES}
        async with self._database.role(Role.SIGN_IN) as session:
            waiting_s = throttle.wait_s(await store.failures(session, [subject]), datetime.now(UTC), limits)
            found = await store.candidate_by_id(session, tenant_id, user_id)
            if waiting_s <= 0:
                await store.count_failure(session, [subject], throttle.FORGOTTEN_AFTER)
        if waiting_s > 0:
            raise SignInBlocked("too many wrong passwords: wait", retry_after_s=waiting_s)
        if not await self._passwords.is_right(current, None if found is None else found.password_hash):
            raise SignInFailed("the current password is wrong")
        password_hash = await self._passwords.hash(new)
        async with self._database.tenant(tenant_id) as session:
            await users.update_user(session, tenant_id, user_id, {"password_hash": password_hash})
            await store.revoke_sessions(session, tenant_id, user_id)
            changed = Change(action="user.updated", kind="user", id=user_id, after={"password": "set"})
            await record(session, tenant_id, actor, changed)
        async with self._database.role(Role.SIGN_IN) as session:
            await store.forget_failures(session, subject)

    async def me(self, principal: Principal) -> User | None:
        """The user behind a credential, if there is one."""
        if principal.tenant_id is None or principal.user_id is None:
            return None
        async with self._database.tenant(principal.tenant_id) as session:
            return await users.user_by_id(session, principal.tenant_id, principal.user_id)

    async def _begun(self, actor: Actor, tenant_id: UUID, user_id: UUID) -> Tokens:
        expires_at = datetime.now(UTC) + self._session_ttl
        begun = Session(id=new_id(), tenant_id=tenant_id, user_id=user_id, expires_at=expires_at)
        fresh = _new_refresh_token()
        async with self._database.tenant(tenant_id) as session:
            await store.sweep(session, tenant_id)
            await store.insert_session(session, begun)
            await store.insert_refresh_token(session, tenant_id, begun.id, hash_key(fresh))
            await record(session, tenant_id, actor, Change(action="sign_in.succeeded", kind="user", id=user_id))
        return self._handed_out(begun, fresh)

    def _handed_out(self, session: Session, refresh_token: str) -> Tokens:
        access_token = self._access_tokens.issue(session.id, session.user_id)
        return Tokens(access_token=access_token, refresh_token=refresh_token, expires_in=self._access_tokens.ttl_s)

    def _user_of(self, principal: Principal) -> tuple[UUID, UUID]:
        if principal.tenant_id is None or principal.user_id is None:
            raise PermissionDenied("there is no user behind this credential")
        return principal.tenant_id, principal.user_id

    async def _note_failure(self, actor: Actor, found: Candidate) -> None:
        """In the tenant's log, or in the platform's: one transaction of the same statements either way."""
        tenant_id = found.tenant_id or PLATFORM_CHAIN
        async with self._database.tenant(tenant_id) as session:
            await record(session, tenant_id, actor, Change(action="sign_in.failed", kind="user", id=found.user_id))


def _new_refresh_token() -> str:
    return REFRESH_PREFIX + secrets.token_urlsafe(_N_RANDOM_BYTES)
