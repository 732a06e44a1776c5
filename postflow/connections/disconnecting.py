"""The end of a connection: what waits is cancelled, credentials are forgotten, the token is revoked when nobody else
stands on it.
"""

from typing import NamedTuple

import httpx
import structlog
from psycopg import Connection
from psycopg_pool import ConnectionPool

from postflow import db, platforms
from postflow.accounts import accounts
from postflow.config import Settings
from postflow.errors import Conflict, ConnectError, Invalid, Misconfigured, NotFound, PublishError
from postflow.models import Account, Login
from postflow.posts import deliveries

log = structlog.stdlib.get_logger("postflow.connections.disconnecting")


class Disconnected(NamedTuple):
    account: Account
    cancelled: int
    revoked: bool  # False: the network still lists PostFlow


async def disconnect(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, account_id: int
) -> Disconnected:
    """Raises NotFound; Conflict while a post is being sent through it."""
    with db.transaction(source) as conn:
        account = accounts.get(conn, user_id, account_id, lock=True)
        waiting = accounts.waiting(conn, user_id, account_id, lock=True)
        if waiting.in_flight:
            raise Conflict(
                f"A post is being sent through {account.handle} right now. Disconnect when its outcome is known."
            )
        login = _login(conn, settings, account)
        shared = login is not None and accounts.shares_token(conn, login, settings.encryption_keys)
        cancelled = deliveries.cancel(conn, waiting.delivery_ids, "You disconnected this account.")
        accounts.disconnect(conn, user_id, account_id)
    if login is None or shared:
        return Disconnected(account, len(cancelled), account.state == "disconnected" or shared)
    if login.app is None:  # a token made by hand: only the person who made it can take it back
        return Disconnected(account, len(cancelled), False)
    try:
        await platforms.get(account.platform).revoke(http, login)
    except (PublishError, ConnectError, NotFound, Invalid) as error:
        log.warning("not revoked", account=account.id, why=str(error))
        return Disconnected(account, len(cancelled), False)
    return Disconnected(account, len(cancelled), True)


def _login(conn: Connection, settings: Settings, account: Account) -> Login | None:
    """None when there is nothing to revoke, or nothing left to revoke it with: an unknown network, a lost key."""
    if account.state == "disconnected":
        return None
    try:
        return accounts.login_of(conn, account.user_id, account.id, settings.encryption_keys)
    except (NotFound, Misconfigured) as gone:
        log.warning("cannot revoke", account=account.id, why=str(gone))
        return None
