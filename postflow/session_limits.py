"""What each kind of session asks of its server: how long it may wait, hold and be silent before the server ends it.

Without these a process that is frozen, or cut off, inside a transaction holds its row without end: no sweep can take it up
and a person who wants to cancel waits with it. A session lives as long as its connection, so all is asked once, when it
is opened. Seconds; 0 is no bound.
"""

from typing import Any, LiteralString, NamedTuple


class Kind(NamedTuple):
    lock_s: int  # how long a statement waits for a row that another session holds
    statement_s: int  # how long one statement may take
    idle_s: int  # how long a transaction may be held by somebody who says nothing


#: A page: a person would rather read that somebody else is at work than wait; no request takes longer than its worker's
#: own limit.
PAGE = Kind(lock_s=5, statement_s=30, idle_s=30)
#: A worker's stories, and the same by hand: nothing of theirs waits for a network inside a transaction, so that whoever is
#: silent in one for so long stands still. Statements may carry a video, or clear away a bite of a large table.
JOB = Kind(lock_s=10, statement_s=120, idle_s=15)
#: Procrastinate's own statements, each of which stands alone and is short.
QUEUE = Kind(lock_s=10, statement_s=30, idle_s=15)
#: The bell's: one look at an index, a lock that it only tries for, a word to others.
BELL = Kind(lock_s=5, statement_s=15, idle_s=15)
#: An operator's command, the look at the schema when a process starts: may count a large table.
COMMAND = Kind(lock_s=10, statement_s=300, idle_s=60)
#: `postflow migrate` may wait for the former release and build an index for as long as that takes.
MIGRATION = Kind(lock_s=0, statement_s=0, idle_s=0)

#: A client, or the way to it, that vanishes without a word is noticed within half a minute, and what it held is free.
#: Over a Unix socket this means nothing and harms nothing.
_WATCHED = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
#: Whatever the server's default is, what was committed is on disk: the intent to send above all. What is stricter than
#: that stays (remote_apply), and so does what an operator has chosen for a synchronous replica (remote_write).
_KEPT: LiteralString = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
SET: LiteralString = (
    "WITH kept AS MATERIALIZED ("
    + _KEPT
    + ") SELECT set_config(name, value, false) FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)"
    " UNION ALL SELECT * FROM kept"
)


def asked(kind: Kind) -> dict[str, Any]:
    """The parameters of `SET`."""
    wanted = {
        "TimeZone": "UTC",
        "lock_timeout": f"{kind.lock_s}s",
        "statement_timeout": f"{kind.statement_s}s",
        "idle_in_transaction_session_timeout": f"{kind.idle_s}s",
        **_WATCHED,
    }
    return {"names": list(wanted), "values": list(wanted.values())}
