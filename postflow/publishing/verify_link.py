"""Before a person's word on an undecided post is written down: the network is asked what stands at the address they gave.

The next part of a thread answers to what stands there, so it must be this account's post, by its id.
"""

import asyncio
from urllib.parse import urlsplit

import httpx
from psycopg_pool import ConnectionPool

from postflow import platforms
from postflow.accounts import accounts
from postflow.config import Settings
from postflow.connections import access
from postflow.errors import Conflict, Invalid, NotFound, Unauthorized
from postflow.models import DeliveryStatus, Login, Receipt
from postflow.posts import deliveries

#: Nobody waits longer than this for a page.
PATIENCE_S = 8.0
_OR_LEAVE_OUT = "Try again in a moment, or leave the address out."


async def seen_at(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, delivery_id: int, link: str
) -> Receipt:
    """Raises Invalid({"link": …}), NotFound, Conflict."""
    try:
        if not link.startswith(("https://", "http://")) or len(link) > 2000 or not urlsplit(link).hostname:
            raise Invalid({"link": "Give the whole address, beginning with https://."})
    except ValueError:
        raise Invalid({"link": "This is not an address. Copy it from your browser."}) from None
    login = _login(source, settings, user_id, delivery_id)
    try:
        async with asyncio.timeout(PATIENCE_S):
            with access.discreetly(login):
                return await platforms.get(login.account.platform).located(http, login, link)
    except TimeoutError:
        sentence = "The network does not answer right now, so nobody knows whether this is the post."
        raise Invalid({"link": f"{sentence} {_OR_LEAVE_OUT}"}) from None


def _login(source: ConnectionPool, settings: Settings, user_id: int, delivery_id: int) -> Login:
    with source.connection() as conn:
        delivery = deliveries.get(conn, user_id, delivery_id)
        if delivery is None:
            raise NotFound("There is no such delivery.")
        if delivery.status is not DeliveryStatus.attention:
            raise Conflict("This has been decided meanwhile.")
        try:
            return accounts.login_of(conn, user_id, delivery.account_id, settings.encryption_keys)
        except Unauthorized as error:
            sentence = f"{error.sentence} So nobody can be asked whether this is the post."
            raise Invalid({"link": f"{sentence} Connect it again first, or leave the address out."}) from None
