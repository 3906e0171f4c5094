"""Table of requests with an Idempotency-Key. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, TenantOwned


class IdempotentRequestRow(TenantOwned, Base):
    """One request: under way (no `status`, `until` is its lease's end) or answered (`until` it is forgotten).

    `answer` is sealed; None beside a status: it was too large to keep. `claim` is the run that the row belongs to.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (Index("ix_idempotent_requests_until", "until"),)

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    fingerprint: Mapped[bytes | None] = mapped_column(LargeBinary)
    claim: Mapped[UUID]
    until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
