"""Limits: how often, how much and how many at once, per tenant, user and key."""

revision = "2026_11_26_1700"
down_revision = "2026_11_24_0900"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
