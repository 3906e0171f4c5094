"""Prices of tenants, by target, in versions."""

revision = "2026_11_26_1720"
down_revision = "2026_11_26_1710"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
