"""Posts of an account take turns; budgets begin anew with a person's word; uploads may have to wait alone."""

from migrations import script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    script.run(script.SQL / "0011_turns.sql")


def downgrade() -> None:
    script.run(script.SQL / "0011_turns_down.sql")
