"""The replica of a chaos run: it follows, is cut off, and takes over without knowing what came last."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos.failover import Replica
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
