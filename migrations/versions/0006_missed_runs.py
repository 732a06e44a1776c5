"""Periodic runs that were missed are made up for, and the bell hears of what is due when it is inserted."""

from migrations import script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    script.run(script.SQL / "0006_missed_runs.sql")


def downgrade() -> None:
    script.run(script.SQL / "0006_missed_runs_down.sql")
