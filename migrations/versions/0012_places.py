"""Statuses belong to accounts as the network knows them, whoever has connected them; posts alike are never in doubt at once."""

from migrations import script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    script.run(script.SQL / "0012_places.sql")


def downgrade() -> None:
    script.run(script.SQL / "0012_places_down.sql")
