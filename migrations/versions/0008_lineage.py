"""A database that has lost its last moments is told from the one that it was."""

from migrations import script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    script.run(script.SQL / "0008_lineage.sql")


def downgrade() -> None:
    script.run(script.SQL / "0008_lineage_down.sql")
