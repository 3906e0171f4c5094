"""Budgets, what is spent of them, and what is leased to processes."""

revision = "2026_11_26_1730"
down_revision = "2026_11_26_1720"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
