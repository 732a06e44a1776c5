"""When each periodic job last ran and how it ended."""

from alembic import op

from migrations import script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    script.run(script.SQL / "0005_periodic_runs.sql")


def downgrade() -> None:
    op.execute("DROP TABLE periodic_runs")
