"""Notices remember by which way they were told, and when to try again."""

from migrations import script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    script.run(script.SQL / "0003_notices.sql")
