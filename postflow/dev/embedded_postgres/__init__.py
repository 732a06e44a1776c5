"""A PostgreSQL server of our own for `postflow dev` and the tests: started and stopped by us, gone with us.

    home/postgres        the data and the log; for root a link to a place that the user `nobody` can reach
    home/postgres.lock   held while a server runs there; the kernel lets go of it however we end

A Unix socket in a directory that nobody else may enter, and no TCP port: nothing clashes, nothing is exposed.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import psycopg

from postflow import errors
from postflow.dev import child_processes
from postflow.dev.embedded_postgres import binaries, place, postmaster

StopMode = Literal["fast", "immediate"]

_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_START_S, _STOP_S = 60.0, 20.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
#: For databases that nobody would miss after a power cut.
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


class EmbeddedPostgres:
    """`with EmbeddedPostgres(Path(".postflow")) as server: psycopg.connect(server.url())`.

    Start it in the main thread: on Linux the server goes down with the thread that started it.
    """

    def __init__(self, home: Path, *, careless: bool = False) -> None:
        self.home = home.absolute()
        self._careless = careless
        self._place: place.Place | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        self._place = place.prepare(self.home)
        try:
            if not self.data.exists():
                self._initialise()
            postmaster.clear_the_way(self.data)
            self._place.make_socket_dir()
            self._launch()
            self._ensure_database()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """`fast` ends the sessions and shuts down; `immediate` is a crash, mended at the next start."""
        self._end_process(mode)
        if self._place:
            shutil.rmtree(self._place.socket_dir, ignore_errors=True)
            self._place.release()
            self._place = None

    def restart(self, mode: StopMode = "fast") -> None:
        """The same server at the same URL again; whoever is connected loses the connection."""
        self._end_process(mode)
        self._launch()

    def url(self, database: str = "postflow") -> str:
        return f"postgresql://postflow@/{database}?host={self._here.socket_dir}"

    @property
    def data(self) -> Path:
        return self._here.data

    @property
    def log(self) -> Path:
        return self._here.log

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def _here(self) -> place.Place:
        assert self._place is not None, "not started"
        return self._place

    def _initialise(self) -> None:
        """initdb under another name, then one rename: half a cluster is never taken for a whole one."""
        _remove_unfinished(self.data.parent)
        found = self._binaries()
        unfinished = self._here.fresh_directory()
        command = [found.bindir / "initdb", "-D", unfinished, "-U", "postflow", "-A", "trust", "-E", "UTF8"]
        command += ["--no-locale"] + ["--no-sync"] * self._careless
        if found.major >= 17:  # its own provider: the same everywhere, whatever locales are installed
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        said = child_processes.output(
            command,
            cwd="/",
            env=_environment(),
            **self._here.as_user,
        )
        if said.returncode:
            raise errors.Misconfigured(f"The local database could not be created: {said.stderr.strip()}")
        unfinished.rename(self.data)

    def _binaries(self, major: int | None = None) -> binaries.Binaries:
        found = binaries.find(major)
        others = self._here.as_user and found.site_packages
        if others and not binaries.reachable_by_others(found.bindir / "initdb"):
            return binaries.copied_to(place.root_shelf(), found)
        return found

    def _launch(self) -> None:
        found = self._binaries(int((self.data / "PG_VERSION").read_text()))
        settings = _SETTINGS | (_CARELESS if self._careless else {})
        settings["unix_socket_directories"] = str(self._here.socket_dir)
        if found.major >= 18:
            settings["io_method"] = "sync"  # three processes fewer
        command = [str(found.bindir / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        deadline = time.monotonic() + _START_S
        while (last_words := self._try_to_launch(command, deadline)) is not None:
            # Sessions of a killed server still hold its memory; they notice and leave within moments.
            if "shared memory" not in last_words or time.monotonic() > deadline:
                raise errors.Misconfigured(f"The local database did not start. It said:\n{last_words.strip()}")
            time.sleep(0.2)

    def _try_to_launch(self, command: list[str], deadline: float) -> str | None:
        """None when it is ready, else what it wrote before it gave up."""
        with self.log.open("ab") as log:
            before = log.tell()
            process = self._process = child_processes.start(
                command,
                dies_by=_SIGNALS["fast"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; the server goes after its clients
                **self._here.as_user,
            )
        while process.poll() is None and time.monotonic() < deadline:
            if postmaster.is_ready(self.data, process.pid):
                return None
            time.sleep(0.02)
        self._end_process("immediate")
        return self.log.read_bytes()[before:][-2000:].decode(errors="replace").strip()

    def _ensure_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = 'postflow'").fetchone():
                conn.execute("CREATE DATABASE postflow")

    def _end_process(self, mode: StopMode) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for sig in (_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
                return


@contextlib.contextmanager
def ephemeral(*, careless: bool = True) -> Iterator[EmbeddedPostgres]:
    """A server on a fresh directory that is deleted afterwards; what killed ones left is deleted first."""
    shelf = _roomy_memory() or Path(tempfile.gettempdir())
    _sweep(shelf)
    home = Path(tempfile.mkdtemp(prefix="postflow-ephemeral-", dir=shelf))
    if not os.geteuid():
        home.chmod(0o755)  # for `nobody`
    try:
        with EmbeddedPostgres(home, careless=careless) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


def url_of_running(home: Path) -> str | None:
    """Of the server that somebody else runs there, if one answers."""
    url = f"postgresql://postflow@/postflow?host={place.socket_dir((home / 'postgres').resolve() / 'data')}"
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return None
    return url


def _roomy_memory() -> Path | None:
    """A place in memory if it can hold databases: containers get 64 MB, which these would outgrow."""
    memory = Path("/dev/shm")  # noqa: S108
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    return memory if roomy else None


def _sweep(shelf: Path) -> None:
    for home in shelf.glob("postflow-ephemeral-*"):
        with contextlib.suppress(OSError):  # somebody else's, or just being removed by its owner
            _remove_if_abandoned(home)


def _remove_if_abandoned(home: Path) -> None:
    """Raises OSError when it is not, which its lock tells, or when it is too young to be locked yet."""
    if time.time() - home.stat().st_mtime < 10:
        return
    with (home / "postgres.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        data = (home / "postgres").resolve() / "data"
        postmaster.clear_the_way(data)
        shutil.rmtree(place.socket_dir(data), ignore_errors=True)
        shutil.rmtree(home)


def _remove_unfinished(parent: Path) -> None:
    """What a killed initdb left; its own child may still be writing for a moment."""
    deadline = time.monotonic() + 5
    while (leftovers := list(parent.glob("unfinished-*"))) and time.monotonic() < deadline:
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Only what a server needs: no PG* variables, no locale that is not installed here."""
    kept = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
