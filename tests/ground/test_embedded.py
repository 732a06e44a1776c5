"""The server of our own: it starts, keeps what was written through every kind of end, and leaves nothing."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from postflow import errors
from postflow.dev import embedded_postgres
from postflow.dev.embedded_postgres import binaries, place
from tests.patience import PATIENCE_S

#: Starts a server on argv[1], prints its URL and waits to be killed.
SUPERVISOR = """
import pathlib, sys, time
from postflow.dev import embedded_postgres
with embedded_postgres.EmbeddedPostgres(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, server.url(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Where root's `nobody` can go: pytest's own temporary directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postflow-home-", dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_rows_outlive_a_stop_and_a_start(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        write_a_row(server.url())
    with embedded_postgres.EmbeddedPostgres(home) as server:
        assert rows(server.url()) == [("kept",)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_leaves_no_process_and_no_socket_behind(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        data, sockets, pid = server.data, place.socket_dir(server.data), server.pid
        assert list(sockets.glob(".s.PGSQL.*"))
        assert living(data)
    assert not sockets.exists()
    assert not living(data)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_url_and_the_rows(home: Path, mode: embedded_postgres.StopMode):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        url, pid = server.url(), server.pid
        write_a_row(url)
        server.restart(mode)
        assert server.pid != pid
        assert server.url() == url
        assert rows(url) == [("kept",)]


def test_a_killed_server_is_restarted_at_the_same_url(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        url = server.url()
        write_a_row(url)
        with psycopg.connect(url):
            os.kill(server.pid, signal.SIGKILL)
            server.restart()
            assert server.url() == url
            assert rows(url) == [("kept",)]


def test_a_killed_supervisor_takes_the_server_along_and_the_next_start_finds_the_rows(home: Path):
    supervisor, _, url = supervised(home)
    write_a_row(url)
    supervisor.kill()
    supervisor.wait()
    with embedded_postgres.EmbeddedPostgres(home) as server:
        assert rows(server.url()) == [("kept",)]


def test_it_starts_again_after_everything_was_killed(home: Path):
    supervisor, postmaster, url = supervised(home)
    write_a_row(url)
    with psycopg.connect(url):  # a session outlives its postmaster for a moment and holds its memory
        os.kill(postmaster, signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
        with embedded_postgres.EmbeddedPostgres(home) as server:
            assert rows(server.url()) == [("kept",)]


@pytest.mark.skipif(sys.platform != "linux", reason="an orphan can only stay behind where no kernel ends it")
def test_an_orphaned_server_is_ended_before_the_next_begins(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        write_a_row(server.url())
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        sockets, owner = place.socket_dir(server.data), server.data.stat()
    sockets.mkdir(mode=0o700)
    os.chown(sockets, owner.st_uid, owner.st_gid)
    as_root = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    orphan = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **as_root)
    try:
        wait_for(lambda: list(sockets.glob(".s.PGSQL.5432")))
        with embedded_postgres.EmbeddedPostgres(home) as server:
            assert rows(server.url()) == [("kept",)]
            assert orphan.wait(PATIENCE_S) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            orphan.kill()


def test_a_stale_pid_file_that_names_a_stranger_is_no_obstacle(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        write_a_row(server.url())
        status = server.data / "postmaster.pid"
        lines = status.read_text().splitlines(keepends=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        status.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
        owner = server_owner(home)
        os.chown(status, owner.st_uid, owner.st_gid)
        with embedded_postgres.EmbeddedPostgres(home) as server:
            assert rows(server.url()) == [("kept",)]
        stranger.kill()


def test_an_initialisation_that_was_killed_is_started_anew(home: Path):
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, home], stdout=subprocess.DEVNULL)
    wait_for(lambda: list(home.glob("postgres/unfinished-*/PG_VERSION")))
    supervisor.kill()
    supervisor.wait()
    assert not (home / "postgres" / "data").exists()
    with embedded_postgres.EmbeddedPostgres(home) as server:
        write_a_row(server.url())
        assert not list(home.glob("postgres/unfinished-*"))


def test_two_on_the_same_data_are_told_apart(home: Path):
    with embedded_postgres.EmbeddedPostgres(home), pytest.raises(errors.Misconfigured, match="POSTFLOW_DATA_DIR"):
        embedded_postgres.EmbeddedPostgres(home).start()


def test_the_socket_is_closed_to_everybody_else(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server:
        assert stat.S_IMODE(place.socket_dir(server.data).stat().st_mode) == 0o700
        with psycopg.connect(server.url()) as conn:
            assert conn.execute("SHOW listen_addresses").fetchone() == ("",)


def test_letters_beyond_ascii_fold(home: Path):
    with embedded_postgres.EmbeddedPostgres(home) as server, psycopg.connect(server.url()) as conn:
        if binaries.find().major < 17:
            pytest.skip("before 17 PostgreSQL depends on the system's locales")
        assert conn.execute("SELECT lower('ÄŽ'), 'Ä' ILIKE 'ä'").fetchone() == ("äž", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must not run it as itself")
def test_root_keeps_its_home_closed_and_its_data_elsewhere():
    with tempfile.TemporaryDirectory(prefix="postflow-closed-", dir="/tmp") as closed:
        os.chmod(closed, 0o700)
        with embedded_postgres.EmbeddedPostgres(Path(closed, ".postflow")) as server:
            write_a_row(server.url())
            kept_in = server.data.parent
            assert kept_in.is_relative_to(place.ROOT_SHELF)
            assert kept_in.owner() == "nobody"
        with embedded_postgres.EmbeddedPostgres(Path(closed, ".postflow")) as server:
            assert rows(server.url()) == [("kept",)]
        assert stat.S_IMODE(os.stat(closed).st_mode) == 0o700
        subprocess.run(["rm", "-r", kept_in], check=True)


def test_binaries_copied_for_another_user_run_from_their_new_place(tmp_path: Path):
    found = binaries.find()
    if not found.site_packages:
        pytest.skip("the system's PostgreSQL is open to everybody")
    tmp_path.chmod(0o755)
    copy = binaries.copied_to(tmp_path, found)
    assert binaries.copied_to(tmp_path, found) == copy
    said = subprocess.run([copy.bindir / "initdb", "--version"], capture_output=True, text=True, check=True)
    assert f" {found.major}." in said.stdout
    assert [path.name for path in tmp_path.iterdir()] == [copy.site_packages and copy.site_packages.name]


def test_no_server_anywhere_is_said_with_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("POSTFLOW_PG_BINDIR", str(tmp_path))
    with pytest.raises(errors.Misconfigured, match="DATABASE_URL"):
        binaries.find()


def test_data_of_another_major_version_is_refused_by_name():
    with pytest.raises(errors.Misconfigured, match=r"made by PostgreSQL 9, but here is only \d+"):
        binaries.find(9)


def test_an_ephemeral_server_of_a_killed_process_is_swept_away_by_the_next():
    code = SUPERVISOR.replace("EmbeddedPostgres(pathlib.Path(sys.argv[1]))", "ephemeral()")
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert killed.stdout
    with killed.stdout:
        url = killed.stdout.readline().split()[1]
    killed.kill()
    killed.wait()
    sockets = Path(url.partition("host=")[2])
    (home,) = [path for path in ephemeral_homes() if place.socket_dir(path / "postgres" / "data") == sockets]
    long_ago = time.time() - 60
    os.utime(home, (long_ago, long_ago))
    with embedded_postgres.ephemeral() as server:
        assert not home.exists()
        assert not sockets.exists()
        mine = server.home
        assert mine.exists()
    assert not mine.exists()


def supervised(home: Path) -> tuple[subprocess.Popen[str], int, str]:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, home], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    with supervisor.stdout:
        pid, url = supervisor.stdout.readline().split()
    return supervisor, int(pid), url


def write_a_row(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE note AS SELECT 'kept' AS word")


def rows(url: str) -> list[tuple[str]]:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT word FROM note").fetchall()


def living(data: Path) -> list[str]:
    """The server and all its helpers work in the data directory."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == data:
                pids.append(process.name)
    return pids


def server_owner(home: Path) -> os.stat_result:
    return (home / "postgres" / "data").stat()


def ephemeral_homes() -> list[Path]:
    return [home for shelf in ("/dev/shm", tempfile.gettempdir()) for home in Path(shelf).glob("postflow-eph*")]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
