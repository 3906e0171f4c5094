"""All SQL of sign-in. Each function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.sign_in.model import Candidate, RefreshToken, Session
from app.accounts.sign_in.tables import RefreshTokenRow, SessionRow, SignInFailureRow

_FIND = text(
    """
    select t.id, u.id, u.password_hash, u.role, u.disabled_at is not null
    from (values (1)) as always (one)
    left join tenants t on t.slug = :slug
    left join users u on u.tenant_id = t.id and u.email = :email
    """
)
_FIND_BY_ID = text(
    "select tenant_id, id, password_hash, role, disabled_at is not null from users where tenant_id = :t and id = :id"
)


async def candidate(session: AsyncSession, slug: str, email: str) -> Candidate:
    """One statement, whether there is such a tenant and such a user or not. In the role that signs in."""
    tenant_id, user_id, password_hash, role, is_disabled = (
        await session.execute(_FIND, {"slug": slug, "email": email})
    ).one()
    return Candidate(
        tenant_id=tenant_id, user_id=user_id, password_hash=password_hash, role=role, is_disabled=bool(is_disabled)
    )


async def candidate_by_id(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> Candidate | None:
    """In the role that signs in."""
    row = (await session.execute(_FIND_BY_ID, {"t": tenant_id, "id": user_id})).one_or_none()
    if row is None:
        return None
    return Candidate(tenant_id=row[0], user_id=row[1], password_hash=row[2], role=row[3], is_disabled=row[4])


async def failures(session: AsyncSession, subjects: Sequence[bytes]) -> dict[bytes, tuple[int, datetime]]:
    """How often each failed, and when last. In the role that signs in."""
    row = SignInFailureRow
    found = await session.execute(select(row.subject, row.n_failures, row.last_at).where(row.subject.in_(subjects)))
    return {subject: (n_failures, last_at) for subject, n_failures, last_at in found}


async def count_failure(session: AsyncSession, subjects: Sequence[bytes], forgotten_after: timedelta) -> None:
    """One more for each; what is older than `forgotten_after` does not count, and goes. In the role that signs in."""
    row = SignInFailureRow
    await session.execute(delete(row).where(row.last_at < func.now() - forgotten_after))
    statement = insert(row).values([{"subject": s, "n_failures": 1, "last_at": func.now()} for s in sorted(subjects)])
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[row.subject], set_={"n_failures": row.n_failures + 1, "last_at": func.now()}
        )
    )


async def forget_failures(session: AsyncSession, subject: bytes) -> None:
    """In the role that signs in."""
    await session.execute(delete(SignInFailureRow).where(SignInFailureRow.subject == subject))


async def take_back_failure(session: AsyncSession, subjects: Sequence[bytes]) -> None:
    """It was none. In the role that signs in."""
    row = SignInFailureRow
    await session.execute(
        update(row).where(row.subject.in_(subjects), row.n_failures > 0).values(n_failures=row.n_failures - 1)
    )


async def insert_session(session: AsyncSession, made: Session) -> None:
    await session.execute(
        insert(SessionRow).values(
            tenant_id=made.tenant_id, id=made.id, user_id=made.user_id, expires_at=made.expires_at
        )
    )


async def insert_refresh_token(session: AsyncSession, tenant_id: UUID, session_id: UUID, token_hash: bytes) -> None:
    await session.execute(
        insert(RefreshTokenRow).values(tenant_id=tenant_id, session_id=session_id, token_hash=token_hash)
    )


async def find_refresh_token(session: AsyncSession, token_hash: bytes) -> RefreshToken | None:
    """Across tenants: in the role that signs in."""
    row = RefreshTokenRow
    found = await session.execute(
        select(row.tenant_id, row.session_id, row.used_at.is_not(None)).where(row.token_hash == token_hash)
    )
    one = found.one_or_none()
    return None if one is None else RefreshToken(tenant_id=one[0], session_id=one[1], is_used=one[2])


async def use_refresh_token(session: AsyncSession, tenant_id: UUID, token_hash: bytes) -> bool:
    """Whether this was its first use. Of two at once, one wins."""
    row = RefreshTokenRow
    used = await session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.token_hash == token_hash, row.used_at.is_(None))
        .values(used_at=func.now())
        .returning(row.session_id)
    )
    return used.one_or_none() is not None


async def living_session(session: AsyncSession, tenant_id: UUID, session_id: UUID) -> Session | None:
    """None once it is revoked or over, or its user is shut out."""
    found = await session.execute(
        text(
            """
            select s.id, s.tenant_id, s.user_id, s.expires_at
            from sessions s join users u on u.tenant_id = s.tenant_id and u.id = s.user_id
            where s.tenant_id = :t and s.id = :id and s.revoked_at is null and s.expires_at > now()
              and u.disabled_at is null
            """
        ),
        {"t": tenant_id, "id": session_id},
    )
    row = found.mappings().one_or_none()
    return Session(**row) if row else None


async def revoke_session(session: AsyncSession, tenant_id: UUID, session_id: UUID) -> UUID | None:
    """Whose it was, if it lived until now."""
    row = SessionRow
    revoked = await session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.id == session_id, row.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(row.user_id)
    )
    return revoked.scalar_one_or_none()


async def revoke_sessions(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> None:
    """All of a user's."""
    row = SessionRow
    await session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.user_id == user_id, row.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def sweep(session: AsyncSession, tenant_id: UUID) -> None:
    """A tenant's sessions that are over, with their refresh tokens."""
    row = SessionRow
    await session.execute(delete(row).where(row.tenant_id == tenant_id, row.expires_at < func.now()))
