"""Answers of requests with an Idempotency-Key."""

revision = "2026_11_26_1710"
down_revision = "2026_11_26_1700"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
