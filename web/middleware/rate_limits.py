"""How often may one ask? Counted in Postgres, so that every process and machine counts together.

Attempts are counted before they are looked at, so that many at once cannot slip through, and those that did not fail are
taken back: by where they come from, and, far more of them, by the account they are about.
"""

import hashlib
import ipaddress
import time

import psycopg
import structlog
from flask import Flask, g, request
from flask_limiter import Limiter
from limits import RateLimitItemPerHour
from limits.storage import Storage
from werkzeug.exceptions import TooManyRequests

from postflow import config
from web.middleware import database

log = structlog.stdlib.get_logger("web.middleware.rate_limits")
#: Guesses at one account from wherever: whoever has many addresses gets no further with them, and one address cannot use
#: them up alone and keep its person out.
BY_ACCOUNT = RateLimitItemPerHour(100)


def whence() -> str:
    """Whom a request is counted for. In IPv6 everybody has a network of 2⁶⁴ addresses to themselves."""
    try:
        address = ipaddress.ip_address((request.remote_addr or "").split("%")[0])
    except ValueError:
        return "nowhere"
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False)
    return str(address)


limiter = Limiter(whence, headers_enabled=False)


class PostgresStorage(Storage):
    """`limits`' fixed windows over the rate_counters table."""

    STORAGE_SCHEME = ["postflow"]  # noqa: RUF012 the base class has it so

    @property
    def base_exceptions(self) -> type[Exception]:
        return psycopg.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        with database.connection() as conn:
            row = conn.execute(
                """
                INSERT INTO rate_counters AS counter (key, hits, expires_at)
                VALUES (%(key)s, %(amount)s, now() + make_interval(secs => %(expiry)s))
                ON CONFLICT (key) DO UPDATE
                   SET hits = CASE WHEN counter.expires_at <= now() THEN excluded.hits
                                   ELSE counter.hits + excluded.hits END,
                       expires_at = CASE WHEN counter.expires_at <= now() THEN excluded.expires_at
                                         ELSE counter.expires_at END
                RETURNING hits
                """,
                {"key": key, "amount": amount, "expiry": expiry},
            ).fetchone()
        return row[0] if row else amount

    def get(self, key: str) -> int:
        with database.connection() as conn:
            row = conn.execute(
                "SELECT hits FROM rate_counters WHERE key = %(key)s AND expires_at > now()", {"key": key}
            ).fetchone()
        return row[0] if row else 0

    def get_expiry(self, key: str) -> float:
        with database.connection() as conn:
            row = conn.execute(
                "SELECT extract(epoch FROM expires_at)::float8 FROM rate_counters WHERE key = %(key)s", {"key": key}
            ).fetchone()
        return row[0] if row else time.time()

    def uncount(self, key: str) -> None:
        with database.connection() as conn:
            conn.execute(
                "UPDATE rate_counters SET hits = greatest(hits - 1, 0) WHERE key = %(key)s AND expires_at > now()",
                {"key": key},
            )

    def check(self) -> bool:
        with database.connection() as conn:
            return conn.execute("SELECT 1").fetchone() == (1,)

    def reset(self) -> int | None:
        with database.connection() as conn:
            return conn.execute("DELETE FROM rate_counters").rowcount

    def clear(self, key: str) -> None:
        with database.connection() as conn:
            conn.execute("DELETE FROM rate_counters WHERE key = %(key)s", {"key": key})


def count_against(account: str) -> None:
    """One more attempt at it. Raises TooManyRequests. Whether there is such an account makes no difference."""
    key = BY_ACCOUNT.key_for("web", "account", hashlib.sha256(account.encode("utf-8", "replace")).hexdigest()[:32])
    g.setdefault("attempts", []).append(key)
    if limiter.storage.incr(key, BY_ACCOUNT.get_expiry(), 1) > BY_ACCOUNT.amount:
        raise TooManyRequests


def uncount() -> None:
    """This request did not fail, so it was no attempt."""
    storage = limiter.storage
    if isinstance(storage, PostgresStorage):
        for key in (*(limit.key for limit in limiter.current_limits), *g.pop("attempts", ())):
            storage.uncount(key)


def _notice_a_proxy(app: Flask) -> None:
    """Behind a router nobody told us of, all people share its address, and one of them can lock out the others."""

    @app.before_request
    def look() -> None:
        if "X-Forwarded-For" in request.headers and not app.extensions.setdefault("proxy noticed", False):
            app.extensions["proxy noticed"] = True
            log.warning("requests come through a proxy, but POSTFLOW_PROXIES is 0: set it to the number of proxies")


def register(app: Flask, settings: config.Settings) -> None:
    if settings.proxies == 0:
        _notice_a_proxy(app)
    app.config.update(
        RATELIMIT_STORAGE_URI="postflow://", RATELIMIT_STRATEGY="fixed-window", RATELIMIT_KEY_PREFIX="web"
    )
    app.extensions["sign_in_attempts"] = settings.sign_in_attempts
    limiter.init_app(app)
