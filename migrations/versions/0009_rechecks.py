"""What was sent twice is looked at again."""

from alembic import op

from migrations import script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    script.run(script.SQL / "0009_rechecks.sql")


def downgrade() -> None:
    op.execute("DROP TABLE rechecks")
