"""For machines: is the process up, can it do its work, and how is the queue?

/healthz   this process answers
/readyz    the database answers, its tables are current, and a worker lives (200), else 503 with what is wrong
/metrics   Prometheus (web/metrics.py); only with `Authorization: Bearer <POSTFLOW_METRICS_TOKEN>`
"""

import hmac

import psycopg
from flask import Blueprint, Response, jsonify, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from psycopg_pool import PoolTimeout
from werkzeug.exceptions import NotFound

from postflow import db, errors
from web import metrics as measures
from web.middleware import database
from web.middleware.rate_limits import limiter

bp = Blueprint("health", __name__)
limiter.exempt(bp)
#: Workers report every five seconds; after this long without one nothing gets published.
SILENT_S = 30


@bp.get("/healthz")
def healthz() -> Response:
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> tuple[Response, int]:
    try:
        with database.connection() as conn:
            db.check_schema(conn)
            read_only = conn.execute("SHOW transaction_read_only").fetchone() == ("on",)
            heartbeat_s = _heartbeat_age_s(conn)
    except errors.Misconfigured as wrong:
        return jsonify(status="not ready", why=str(wrong)), 503
    except (psycopg.Error, PoolTimeout):
        return jsonify(status="not ready", why="the database does not answer"), 503
    if read_only:
        return jsonify(status="not ready", why="the database is read-only"), 503
    if heartbeat_s is None or heartbeat_s > SILENT_S:
        return jsonify(status="not ready", why="no worker is alive", worker_heartbeat_age_s=heartbeat_s), 503
    return jsonify(status="ok", worker_heartbeat_age_s=round(heartbeat_s, 1)), 200


@bp.get("/metrics")
def metrics() -> Response:
    token = database.settings().metrics_token
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token is None or not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise NotFound
    registry = CollectorRegistry()
    registry.register(measures.FromTheDatabase())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _heartbeat_age_s(conn: psycopg.Connection) -> float | None:
    row = conn.execute(
        "SELECT extract(epoch FROM now() - max(last_heartbeat))::float8 FROM procrastinate_workers"
    ).fetchone()
    return row[0] if row else None
