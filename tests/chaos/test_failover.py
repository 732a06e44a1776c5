"""The replica of a chaos run: it follows, is cut off, and takes over without knowing what came last."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos import stage
from chaos.failover import Replica, set_right, take_over
from chaos.troubles import HOUR_S, Failover
from postflow.dev import embedded_postgres
from postflow.operations import migrate


@pytest.fixture
def primary() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    with embedded_postgres.ephemeral(careless=False) as server:
        migrate.upgrade(server.url())
        yield server


def test_a_promoted_replica_lacks_what_was_committed_after_it_was_cut_off_and_has_another_lineage(
    primary: embedded_postgres.EmbeddedPostgres, tmp_path: Path
) -> None:
    with Replica(tmp_path / "replica", primary) as replica:
        with psycopg.connect(primary.url(), autocommit=True) as conn:
            lineage = conn.execute("SELECT mark FROM lineage WHERE mark = postflow_lineage()").fetchone()
            assert lineage
            conn.execute("CREATE TABLE said (word text)")
            conn.execute("INSERT INTO said VALUES ('followed')")
            replica.catch_up(conn)
            replica.cut_off()
            conn.execute("INSERT INTO said VALUES ('forgotten')")
        primary.stop("immediate")
        replica.promote()
        with psycopg.connect(replica.url(), autocommit=True) as conn:
            assert conn.execute("SELECT word FROM said").fetchall() == [("followed",)]
            assert conn.execute("SELECT mark FROM lineage WHERE mark = postflow_lineage()").fetchone() is None
            conn.execute("INSERT INTO said VALUES ('goes on')")


def ahead_s(built: stage.Stage) -> int:
    with built.connect() as conn:
        [told] = conn.execute("SELECT now() - pg_catalog.now()").fetchone() or [None]
    assert told is not None
    return round(told.total_seconds())


def test_who_takes_over_has_its_wrong_clock_before_anybody_reaches_it_and_the_right_one_when_it_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    there = stage.Stage.fail_over_to

    def reached(built: stage.Stage, server: embedded_postgres.EmbeddedPostgres) -> None:
        there(built, server)
        told.append(ahead_s(built))

    monkeypatch.setattr(stage.Stage, "fail_over_to", reached)
    with stage.built() as built, Replica(tmp_path / "replica", built.postgres) as replica:
        replica.promote()
        late = Failover(at_s=0, ahead_s=HOUR_S, set_after_s=0.01, right_after_s=3600)
        take_over(built, replica, late)
        assert (told, ahead_s(built), set_right(built, late)) == ([0], HOUR_S, False)
        at_once = Failover(at_s=0, ahead_s=-HOUR_S, set_after_s=0, right_after_s=0)
        take_over(built, replica, at_once)
        assert (told[-1], set_right(built, at_once), ahead_s(built)) == (-HOUR_S, True, 0)
