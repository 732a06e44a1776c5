"""What happened is counted where it happens, for /metrics."""

from migrations import script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    script.run(script.SQL / "0010_totals.sql")


def downgrade() -> None:
    script.run(script.SQL / "0010_totals_down.sql")
