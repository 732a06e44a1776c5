"""The end of an account's access, noticed once and told to its person. Worker side.

A 401 speaks of the token it was asked with. When the account was refreshed or connected anew in the meantime, it says
nothing of the token that is stored now, and the account stays as it is.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator

import structlog
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from postflow import db, platforms
from postflow.accounts import accounts
from postflow.config import Settings
from postflow.engine import Engine, kept
from postflow.errors import NotFound, PublishError, Retry, Unauthorized
from postflow.models import Login
from postflow.notifications import notices
from postflow.platforms import answers

log = structlog.stdlib.get_logger("postflow.connections.access")


@contextlib.asynccontextmanager
async def watched(engine: Engine, login: Login) -> AsyncIterator[None]:
    """Around every call to a network: a dead token is the account's trouble, not only this post's, and what a network
    says of a failure is told on without the secrets it may repeat.

    Passes PublishError on; in the place of Unauthorized it raises Retry when there is a newer token to try with, and when
    it was not the network that said so.
    """
    try:
        with discreetly(login):
            yield
    except Unauthorized as error:
        if not await is_the_network(engine, login):
            raise turned_away(error) from None
        if await end(engine.pool, engine.settings, login, error.sentence):
            raise
        raise Retry(
            "The account's access was renewed meanwhile.", retry_in_s=1, code="renewed", detail=error.detail
        ) from None


async def is_the_network(engine: Engine, login: Login) -> bool:
    """A gateway that turns away whoever comes says nothing of this token."""
    try:
        return await platforms.get(login.account.platform).is_itself(engine.http, login.account.base_url)
    except NotFound:
        return True


def turned_away(error: Unauthorized) -> Retry:
    sentence = "Something in front of the server turned PostFlow away."
    return Retry(sentence, code="turned_away", detail=error.detail)


@contextlib.contextmanager
def discreetly(login: Login) -> Iterator[None]:
    """Takes every secret of this account out of what a failure says, whichever request it was sent with."""
    held = [getattr(login.credentials, name) for name in type(login.credentials).model_fields]
    held.append(login.app.client_secret if login.app else None)
    secrets = [one.get_secret_value() for one in held if isinstance(one, SecretStr)]
    try:
        yield
    except PublishError as error:
        error.sentence = answers.without(error.sentence, secrets)
        error.detail = answers.without(error.detail, secrets) if error.detail else None
        error.args = (error.sentence,)
        raise


@kept
async def end(pool: AsyncConnectionPool, settings: Settings, login: Login, sentence: str) -> bool:
    """active → needs_reconnect. False when other credentials are stored by now: nothing is known about those."""
    async with db.async_transaction(pool) as conn:
        if await accounts.mark_needs_reconnect(conn, login, sentence):
            await notices.access_ended(conn, settings, login.account, sentence, episode=login.version[:16])
            log.warning("needs reconnecting", account=login.account.id, why=sentence)
            return True
        return not await accounts.has_newer_credentials(conn, login)
