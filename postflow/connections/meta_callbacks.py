"""The story of somebody who takes PostFlow's permission back at Meta, or asks there for their data to be deleted.

deauthorise  their accounts need reconnecting; posts that wait are kept
delete       credentials, names, pictures and ids of their accounts are forgotten; posts that wait are cancelled
confirmed    what a confirmation code stands for: it carries its own proof, nothing is stored about who asked

Meta repeats callbacks it is not sure of: each does nothing the second time. docs/instagram.md has the addresses.
"""

import base64
import hashlib
import hmac
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from psycopg import Connection
from psycopg_pool import ConnectionPool

from postflow import db
from postflow.accounts import accounts
from postflow.config import Settings
from postflow.connections import access
from postflow.models import Login, utc_now
from postflow.platforms.instagram import graph, signed_request
from postflow.posts import deliveries

log = structlog.stdlib.get_logger("postflow.connections.meta_callbacks")

#: Clocks differ; and an access that is newer than the callback was given after it.
SKEW = timedelta(minutes=1)
REMOVED = "PostFlow was removed from the apps this account allows."
_FACTS = struct.Struct(">IB")
_PROOF_BYTES = 15


class Confirmed(NamedTuple):
    at: datetime
    accounts: int


async def deauthorise(source: ConnectionPool, settings: Settings, signed: signed_request.Signed) -> None:
    """Its person is told like of any other end of access, with the posts that wait."""
    with source.connection() as conn:
        logins = _of(conn, settings, signed)
    async with db.async_pool(settings.database_url.get_secret_value(), max_size=1) as pool:
        for login in logins:
            await access.end(pool, settings, login, REMOVED)


def delete(conn: Connection, settings: Settings, signed: signed_request.Signed) -> str:
    """Returns the confirmation code. A post that is being sent right now goes on and ends without a link."""
    logins = _of(conn, settings, signed)
    for login in logins:
        account = login.account
        waiting = accounts.waiting(conn, account.user_id, account.id, lock=True)
        deliveries.cancel(conn, waiting.delivery_ids, "The person behind this account asked Meta for their data to go.")
        deliveries.forget_remote(conn, account.id)
        accounts.disconnect(conn, account.user_id, account.id)
        accounts.forget_person(conn, account.id)
        log.warning("data deleted", account=account.id)
    return _code(settings, utc_now(), len(logins))


def _of(conn: Connection, settings: Settings, signed: signed_request.Signed) -> list[Login]:
    """Every account, of anyone here, that this person opened through the app that signed."""
    found = []
    for login in accounts.logins(conn, "instagram", settings.encryption_keys):
        keys = graph.keys_of(login)
        theirs = signed.user_id in (login.account.remote_id, *keys.person_ids)
        newer = keys.issued_at is not None and keys.issued_at - signed.issued_at > SKEW
        if theirs and keys.flavour == signed.flavour and not newer:
            found.append(login)
    return found


# -- the code ----------------------------------------------------------------------------------------------------


def confirmed(settings: Settings, code: str) -> Confirmed | None:
    """None for a code that is not one of ours."""
    try:
        raw = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
    except ValueError:
        return None
    facts, proof = raw[: _FACTS.size], raw[_FACTS.size :]
    if len(facts) < _FACTS.size or not hmac.compare_digest(_proof(settings, facts), proof):
        return None
    at, count = _FACTS.unpack(facts)
    return Confirmed(datetime.fromtimestamp(at, UTC), count)


def _code(settings: Settings, at: datetime, count: int) -> str:
    """Letters and digits only: when, how many accounts, and a proof that it was us who said so."""
    facts = _FACTS.pack(int(at.timestamp()), min(count, 255))
    return base64.b32encode(facts + _proof(settings, facts)).decode().rstrip("=").lower()


def _proof(settings: Settings, facts: bytes) -> bytes:
    key = settings.secret_key.get_secret_value().encode()
    return hmac.digest(key, b"postflow.withdrawing" + facts, hashlib.sha256)[:_PROOF_BYTES]
