"""A primary that is lost, and a replica that followed at a distance, and does not know the last moments, in its place."""

import shutil
import tempfile
import time
from pathlib import Path

import psycopg

from chaos.people import People
from chaos.stage import Stage
from chaos.troubles import Failover
from postflow.dev import child_processes, embedded_postgres
from postflow.dev.embedded_postgres import place

#: So many moments are lost at least, and until something was sent in them; a quiet time is not waited out.
LOST_S, LONGEST_S = 1.0, 15.0
_PATIENCE_S = 60


class Replica(embedded_postgres.EmbeddedPostgres):
    """A copy of a running server that follows it until it is cut off."""

    def __init__(self, home: Path, primary: embedded_postgres.EmbeddedPostgres) -> None:
        super().__init__(home)
        self._place = place.prepare(self.home)
        try:
            self._copy(primary)
        finally:
            self._place.release()
            self._place = None

    def _copy(self, primary: embedded_postgres.EmbeddedPostgres) -> None:
        host = primary.url().rpartition("host=")[2]
        command = [self._binaries().bindir / "pg_basebackup", "-h", host, "-U", "postflow", "-D", self.data]
        command += ["-R", "-c", "fast", "--wal-method=stream"]
        said = child_processes.output(command, cwd="/", **self._here.as_user)
        if said.returncode:
            raise RuntimeError(f"the primary could not be copied: {said.stderr.strip()}")

    def _ensure_database(self) -> None:
        """Nothing can be made on a replica, and all is there."""

    def catch_up(self, primary: psycopg.Connection) -> None:
        there = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        with psycopg.connect(self.url(), autocommit=True) as conn:
            _wait_until(conn, "SELECT pg_last_wal_replay_lsn() >= %s", list(there or ()))

    def cut_off(self) -> None:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET primary_conninfo = ''")
            conn.execute("SELECT pg_reload_conf()")
            _wait_until(conn, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")

    def promote(self) -> None:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute("SELECT pg_promote()")


def fail_over(stage: Stage, people: People, planned: Failover) -> None:
    """Nobody but the workers does anything in the moments that are lost: of what a person does then, nobody can know."""
    home = Path(tempfile.mkdtemp(prefix="postflow-ephemeral-", dir=stage.postgres.home.parent))
    home.chmod(0o755)  # for the server's user, as for the first
    replica = Replica(home, stage.postgres)
    replica.start()
    stage.keep(replica, lambda: shutil.rmtree(home, ignore_errors=True))
    with people.away():
        with stage.connect() as primary:
            replica.catch_up(primary)
            replica.cut_off()
            _something_is_sent(stage, primary)
        stage.postgres.stop("immediate")
        replica.promote()
        take_over(stage, replica, planned)


def set_right(stage: Stage, planned: Failover) -> bool:
    """The clock of who has taken over, once it is time for that."""
    is_time = stage.failed_over_at is not None and time.monotonic() > stage.failed_over_at + planned.right_after_s
    if is_time:
        stage.set_clock(0)
    return is_time


def take_over(stage: Stage, replica: Replica, planned: Failover) -> None:
    if planned.ahead_s and not planned.set_after_s:
        stage.set_clock(planned.ahead_s, of=replica)
    stage.fail_over_to(replica)
    if planned.ahead_s and planned.set_after_s:
        time.sleep(planned.set_after_s)
        stage.set_clock(planned.ahead_s)


def _something_is_sent(stage: Stage, primary: psycopg.Connection) -> None:
    began = time.monotonic()
    [before] = primary.execute("SELECT coalesce(max(id), 0) FROM delivery_events").fetchone() or [0]
    while (passed_s := time.monotonic() - began) < LONGEST_S:
        stage.keep_alive()
        sent = primary.execute(
            "SELECT FROM delivery_events WHERE id > %s AND status = 'published' LIMIT 1", [before]
        ).fetchone()
        if passed_s > LOST_S and sent is not None:
            break
        time.sleep(0.05)


def _wait_until(conn: psycopg.Connection, query: str, params: list[object] | None = None) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while conn.execute(query.encode(), params or []).fetchone() != (True,):
        if time.monotonic() > give_up:
            raise TimeoutError(query)
        time.sleep(0.02)
