"""Does the database keep what it has confirmed? Everything that PostFlow promises rests on that."""

from collections.abc import Mapping
from typing import NamedTuple

import psycopg

_ASKED = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")


class Kept(NamedTuple):
    well: bool
    sentence: str


def of(conn: psycopg.Connection) -> Kept:
    rows = conn.execute(
        "SELECT name, CASE WHEN name = 'synchronous_commit' THEN reset_val ELSE setting END"
        " FROM pg_settings WHERE name = ANY(%s)",
        [list(_ASKED)],
    ).fetchall()
    replicas = conn.execute("SELECT count(*) FROM pg_stat_replication").fetchone()
    return judged(dict(rows), replicas[0] if replicas else 0)


def judged(settings: Mapping[str, str], replicas: int) -> Kept:
    """Our sessions raise synchronous_commit by themselves (`postflow.session_limits`); the others only an operator can set."""
    off = [name for name in ("fsync", "full_page_writes") if settings.get(name) == "off"]
    if off:
        named = " and ".join(off)
        return Kept(
            False,
            f"{named} {'is' if len(off) == 1 else 'are'} off: after a crash the database may have forgotten what was sent, or"
            " be unreadable. Set it to on in postgresql.conf (full_page_writes may be off where the file system never writes"
            " half a page, such as ZFS).",
        )
    said = "what is committed is on disk"
    if settings.get("synchronous_commit") in ("off", "local"):
        said += f", though synchronous_commit is {settings['synchronous_commit']}: PostFlow's own sessions set it to on"
    if replicas and not settings.get("synchronous_standby_names"):
        said += (
            f"; {replicas} replicas follow at a distance: after a failover what was due is looked up before it is sent. Name"
            " one in synchronous_standby_names, and nothing is forgotten"
        )
    return Kept(True, said)
