"""The connect_attempts table: people sent off to a consent page and not yet back."""

import hashlib
import json
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import dict_row

from postflow import crypto
from postflow.accounts.accounts import Keys
from postflow.errors import ConnectError
from postflow.models import Server


class Attempt(NamedTuple):
    """Sent off to a consent page and come back. `memo` is the platform's own."""

    platform: str
    base_url: str
    option: str
    memo: dict[str, Any]
    account_id: int | None  # the account the person meant to connect again
    registered_anew: bool  # the server had forgotten us once already


def remember(
    conn: Connection, keys: Keys, state: str, user_id: int, server: Server, option: str, kept: dict[str, Any]
) -> None:
    """`kept` holds the last three fields of an Attempt; it is stored sealed."""
    conn.execute(
        """
        INSERT INTO connect_attempts (state_hash, user_id, platform, base_url, option, sealed)
        VALUES (%(state_hash)s, %(user_id)s, %(platform)s, %(base_url)s, %(option)s, %(sealed)s)
        """,
        {
            "state_hash": _hash(state),
            "user_id": user_id,
            "platform": server.platform,
            "base_url": server.base_url,
            "option": option,
            "sealed": crypto.seal_bytes(keys, json.dumps(kept).encode()),
        },
    )


def recall(conn: Connection, keys: Keys, state: str, user_id: int) -> Attempt:
    """Once: the row is gone afterwards, whatever comes of it. Raises ConnectError."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            """
            DELETE FROM connect_attempts
             WHERE state_hash = %(state_hash)s AND user_id = %(user_id)s AND created_at > now() - interval '30 minutes'
            RETURNING platform, base_url, option, sealed
            """,
            {"state_hash": _hash(state), "user_id": user_id},
        ).fetchone()
    if row is None:
        raise ConnectError(
            "This answer does not belong to a connection you began here in the last half hour. Start connecting again."
        )
    kept = json.loads(crypto.unseal_bytes(keys, row.pop("sealed")))
    return Attempt(**row, **kept)


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()
