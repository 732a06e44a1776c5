"""PostFlow's own tables."""

from migrations import script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    script.run(script.SQL / "0002_postflow.sql")
