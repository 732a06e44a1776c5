"""A claim whose cost does not grow with the future, a bell that hears of it alone, and vacuum in time."""

from migrations import script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    script.run(script.SQL / "0004_queue.sql")


def downgrade() -> None:
    script.run(script.SQL / "0004_queue_down.sql")
