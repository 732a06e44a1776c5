"""For machines: is the process up, can it do its work, and how is the queue?

/healthz   this process answers
/readyz    the database answers, its tables are current, and a worker lives (200), else 503 with what is wrong
/metrics   Prometheus; only with `Authorization: Bearer <POSTFLOW_METRICS_TOKEN>`
"""

import hmac
from collections.abc import Iterator

import psycopg
from flask import Blueprint, Response, jsonify, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout
from werkzeug.exceptions import NotFound

from postflow import db, errors
from web import database
from web.limits import limiter

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
            heartbeat_s = _heartbeat_age_s(conn)
    except errors.SchemaBehind as behind:
        return jsonify(status="not ready", why=str(behind)), 503
    except (psycopg.Error, PoolTimeout):
        return jsonify(status="not ready", why="the database does not answer"), 503
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
    registry.register(_Queue())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _heartbeat_age_s(conn: psycopg.Connection) -> float | None:
    row = conn.execute(
        "SELECT extract(epoch FROM now() - max(last_heartbeat))::float8 FROM procrastinate_workers"
    ).fetchone()
    return row[0] if row else None


class _Queue(Collector):
    """Read from Postgres at each scrape, so that every web process says the same."""

    def collect(self) -> Iterator[Metric]:
        with database.connection() as conn:
            yield self._counted(
                conn, "postflow_deliveries", "Deliveries by state", "status", "SELECT status, count(*) FROM deliveries"
            )
            yield self._counted(
                conn, "postflow_accounts", "Accounts by state", "state", "SELECT state, count(*) FROM accounts"
            )
            late = conn.execute(
                """
                SELECT coalesce(extract(epoch FROM now() - min(wake_at)), 0)::float8
                  FROM deliveries WHERE wake_at < now()
                """
            ).fetchone()
            yield GaugeMetricFamily(
                "postflow_oldest_overdue_seconds", "How late the latest delivery is", value=late[0] if late else 0
            )
            age = _heartbeat_age_s(conn)
            yield GaugeMetricFamily(
                "postflow_worker_heartbeat_age_seconds",
                "Since any worker was last heard of",
                value=float("inf") if age is None else age,
            )

    @staticmethod
    def _counted(conn: psycopg.Connection, name: str, text: str, label: str, query: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=[label])
        grouped = query.encode() + b" GROUP BY 1"
        for state, count in conn.execute(grouped).fetchall():
            family.add_metric([state], count)
        return family
