"""What doctor says of a database that may forget, and of one that does not."""

import psycopg
import pytest

from postflow.operations import durability

SOUND = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "synchronous_standby_names": ""}


@pytest.mark.parametrize(
    ("changed", "replicas", "well", "words"),
    [
        ({}, 0, True, "what is committed is on disk"),
        ({"fsync": "off"}, 0, False, "fsync is off"),
        ({"full_page_writes": "off"}, 0, False, "full_page_writes is off"),
        ({"fsync": "off", "full_page_writes": "off"}, 0, False, "fsync and full_page_writes are off"),
        ({"synchronous_commit": "off"}, 0, True, "synchronous_commit is off: PostFlow's own sessions set it to on"),
        ({}, 2, True, "2 replicas follow at a distance"),
        ({"synchronous_standby_names": "ANY 1 (a, b)"}, 2, True, "what is committed is on disk"),
    ],
    ids=str,
)
def test_each_setting_has_its_sentence(changed: dict[str, str], replicas: int, well: bool, words: str):
    kept = durability.judged({**SOUND, **changed}, replicas)
    assert kept.well == well and words in kept.sentence
    assert ("synchronous_standby_names" in kept.sentence) == (
        replicas > 0 and "synchronous_standby_names" not in changed
    )


def test_a_server_is_asked_for_all_of_it(db: psycopg.Connection):
    """Whatever the tests' own server is set to."""
    fsync = db.execute("SHOW fsync").fetchone()
    assert durability.of(db).well == (fsync == ("on",))
