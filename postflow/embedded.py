"""A PostgreSQL server of our own for `postflow dev` and the tests: started and stopped by us, gone when we are.

    home/postgres        the data, the log; as root a link to a place that the user `nobody` can reach
    home/postgres.lock   held while a server runs on it; the kernel lets go of it however we end

Only a Unix socket in a directory that nobody else may enter; no TCP port, so nothing clashes and nothing is exposed.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Literal, Self

from postflow import children, errors, pgbinaries

StopMode = Literal["fast", "immediate"]

_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_ROOT_SHELF = Path("/var/lib/postflow")
_START_S, _STOP_S = 60.0, 20.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
#: For databases that nobody misses: an answer need not survive a power cut.
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


class EmbeddedPostgres:
    """`with EmbeddedPostgres(Path(".postflow")) as server: connect(server.url())`.

    Start it in the main thread: on Linux the server goes down with the thread that started it.
    """

    def __init__(self, home: Path, *, careless: bool = False) -> None:
        self.home = home.absolute()
        self._settings = _SETTINGS | (_CARELESS if careless else {})
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        self._make_room()
        try:
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            _stop_orphan(self.data)
            self._launch()
            self._ensure_database()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """`fast` ends the sessions and shuts down cleanly; `immediate` is a crash, recovered from at the next start."""
        self._end_process(mode)
        if self._lock:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.socket_dir)
            self._lock.close()
            self._lock = None

    def restart(self, mode: StopMode = "fast") -> None:
        """The same server at the same URL again; whoever is connected loses the connection."""
        self._end_process(mode)
        self._launch()

    def url(self, database: str = "postflow") -> str:
        return f"postgresql://postflow@/{database}?host={self.socket_dir}"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    # -- where things are --------------------------------------------------------------------------------

    def _make_room(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._lock = (self.home / "postgres.lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.place = self._find_place().resolve()
        except BlockingIOError:
            raise errors.Misconfigured(
                f"The local database in {self.home} is in use by another PostFlow. Stop that one first, "
                "or give this one its own directory with POSTFLOW_DATA_DIR."
            ) from None
        except PermissionError as refused:
            raise errors.Misconfigured(
                f"The data directory {self.home} belongs to another user ({refused.strerror}: {refused.filename}). "
                "Run as that user, delete it, or name another one in POSTFLOW_DATA_DIR."
            ) from None
        self.data = self.place / "data"
        self.log = self.place / "postgres.log"
        self._as_user = _other_user(self.place)
        self.socket_dir = _socket_dir(self.data, self._as_user.get("user", os.geteuid()))

    def _find_place(self) -> Path:
        """Root's data must lie where `nobody` can go. A deleted home is a fresh start in either case."""
        place = self.home / "postgres"
        if place.exists():
            return place
        if os.geteuid() or pgbinaries.reachable_by_others(self.home):
            place.mkdir(exist_ok=True)
        else:
            _ROOT_SHELF.mkdir(mode=0o755, parents=True, exist_ok=True)
            name = hashlib.sha256(bytes(self.home)).hexdigest()[:12]
            elsewhere = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_ROOT_SHELF))
            place.unlink(missing_ok=True)  # a link that leads nowhere
            place.symlink_to(elsewhere)
        if not os.geteuid():
            nobody = pwd.getpwnam("nobody")
            os.chown(place, nobody.pw_uid, nobody.pw_gid)
        place.chmod(0o700)
        return place

    def _programs(self, major: int | None = None) -> Path:
        found = pgbinaries.find(major)
        if self._as_user and found.package and not pgbinaries.reachable_by_others(found.bindir / "initdb"):
            _ROOT_SHELF.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = pgbinaries.copied_to(_ROOT_SHELF, found)
        self._major = found.major
        return found.bindir

    # -- a life --------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        """initdb under another name, then one rename: half a cluster is never taken for a whole one."""
        for leftover in self.place.glob("unfinished-*"):
            shutil.rmtree(leftover)
        initdb = self._programs() / "initdb"
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.place))
        if user := self._as_user:
            os.chown(unfinished, user["user"], user["group"])
        modern = (
            self._major >= 17
        )  # its own collation provider: the same everywhere, whatever locales are installed
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if modern
            else ["--locale=C"]
        )
        said = subprocess.run(
            [initdb, "-D", unfinished, "-U", "postflow", "-A", "trust", "-E", "UTF8", "--no-sync", *locale],
            capture_output=True, text=True, cwd="/", env=_environment(), preexec_fn=children.dies_with_us(signal.SIGKILL),
            **user,
        )  # fmt: skip
        if said.returncode:
            raise errors.Misconfigured(f"The local database could not be created: {said.stderr.strip()}")
        unfinished.rename(self.data)

    def _launch(self) -> None:
        major = int((self.data / "PG_VERSION").read_text())
        settings = {**self._settings, "unix_socket_directories": str(self.socket_dir)}
        postgres = self._programs(major) / "postgres"
        if major >= 18:
            settings["io_method"] = "sync"  # three processes fewer
        command = [
            str(postgres),
            "-D",
            str(self.data),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        deadline = time.monotonic() + _START_S
        while not self._came_up(command, deadline):
            # Sessions of a killed server still hold its memory; they notice and leave within moments.
            if b"shared memory" not in self._last_words() or time.monotonic() > deadline:
                log = self._last_words().decode(errors="replace").strip()
                raise errors.Misconfigured(
                    f"The local database did not start. It said:\n{log}\n(see {self.log})"
                )
            time.sleep(0.2)

    def _came_up(self, command: list[str], deadline: float) -> bool:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; we stop the server when its clients are gone
                preexec_fn=children.dies_with_us(signal.SIGINT), **self._as_user,
            )  # fmt: skip
        while self._process.poll() is None:
            if _is_ready(self.data, self._process.pid):
                return True
            if time.monotonic() > deadline:
                self._end_process("immediate")
                return False
            time.sleep(0.02)
        return False

    def _last_words(self) -> bytes:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()[-2000:]

    def _ensure_database(self) -> None:
        import psycopg  # here: the class itself needs no driver

        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = 'postflow'").fetchone():
                conn.execute("CREATE DATABASE postflow")

    def _end_process(self, mode: StopMode) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for sig in (_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(sig)
            try:
                process.wait(_STOP_S)
                return
            except subprocess.TimeoutExpired:
                continue


@contextlib.contextmanager
def ephemeral(*, careless: bool = True):
    """A server on a fresh directory that is deleted afterwards; leftovers of killed ones are deleted first."""
    shelf = _roomy_memory() or Path(tempfile.gettempdir())
    _sweep(shelf)
    home = Path(tempfile.mkdtemp(prefix="postflow-ephemeral-", dir=shelf))
    if not os.geteuid():
        home.chmod(0o755)
    try:
        with EmbeddedPostgres(home, careless=careless) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _roomy_memory() -> Path | None:
    """/dev/shm when it can hold databases: containers get 64 MB, which they cannot live in."""
    shm = Path("/dev/shm")  # noqa: S108
    return shm if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 1 << 30 else None


def _sweep(shelf: Path) -> None:
    for home in shelf.glob("postflow-ephemeral-*"):
        with contextlib.suppress(OSError), (home / "postgres.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = (home / "postgres").resolve() / "data"
            _stop_orphan(data)
            shutil.rmtree(_socket_path(data), ignore_errors=True)
            shutil.rmtree(home)


def _other_user(place: Path) -> dict[str, Any]:
    """Popen's arguments to become the owner of the data: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    owner = place.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    """Only what a server needs: no PG* variables, no locale that is not installed here."""
    kept = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "SystemRoot")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def _socket_path(data: Path) -> Path:
    """Short (a socket's path may have about 100 bytes) and the same at every start of the same data."""
    return Path("/tmp", f"postflow-{hashlib.sha256(bytes(data)).hexdigest()[:16]}")  # noqa: S108


def _socket_dir(data: Path, uid: int) -> Path:
    path = _socket_path(data)
    try:
        path.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(path, uid, -1)
    except FileExistsError:
        if path.is_symlink() or path.stat().st_uid != uid:
            raise errors.Misconfigured(f"{path} belongs to somebody else; ask them to remove it.") from None
    return path


def _is_ready(data: Path, pid: int) -> bool:
    """By the server's own status file: line 1 is its pid, line 8 its state."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _stop_orphan(data: Path) -> None:
    """We hold the lock, so a server that still runs on `data` lost its parent: it ends before ours begins.

    A pid in the file that is somebody else's by now (a reboot, a container's restart) would keep PostgreSQL from
    starting for ever. Our own pid in its place makes it go on to its second check, whether sessions are still alive
    (it ignores its parent's pid: CreateLockFile in src/backend/utils/init/miscinit.c).
    """
    status = data / "postmaster.pid"
    try:
        first, *rest = status.read_text().splitlines(keepends=True)
        pid = abs(int(first))
    except (FileNotFoundError, ValueError):
        return
    if not _is_server(pid, data):
        status.write_text("".join([f"{os.getpid()}\n", *rest]))
        return
    for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while _is_server(pid, data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
            time.sleep(0.1)
            if time.monotonic() > deadline:
                break


def _is_server(pid: int, data: Path) -> bool:
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
    else:
        command = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True
        ).stdout
    return "postgres" in command and str(data) in command
