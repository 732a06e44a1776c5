"""How often may one ask? Counted in Postgres, so that every process and machine counts together."""

import time

import psycopg
import structlog
from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.storage import Storage

from postflow import config
from web.middleware import database

log = structlog.stdlib.get_logger("web.middleware.rate_limits")
limiter = Limiter(get_remote_address, headers_enabled=False)


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


def uncount() -> None:
    """This request was what the limit is not about. It was counted first, so that many at once cannot slip through."""
    storage = limiter.storage
    if isinstance(storage, PostgresStorage):
        for limit in limiter.current_limits:
            storage.uncount(limit.key)


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
