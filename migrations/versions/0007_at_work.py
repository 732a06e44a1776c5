"""The sweep finds what dead workers hold without reading what is scheduled."""

from migrations import script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    script.run(script.SQL / "0007_at_work.sql")


def downgrade() -> None:
    script.run(script.SQL / "0007_at_work_down.sql")
