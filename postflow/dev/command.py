"""`postflow dev`: everything on this machine, and nothing left of it afterwards.

database   our own in the data directory, or DATABASE_URL; migrated
secrets    made once and kept beside it
sandbox, web, worker ...   children, supervised
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from postflow import db, errors
from postflow.dev import child_processes, embedded_postgres, published_lines, supervisor
from postflow.dev.embedded_postgres import binaries

CHECKOUT = Path(__file__).parent.parent.parent
#: The sandbox opens this many ports in a row: its own and one per pretended instance, Instagram third.
_SANDBOX_PORTS = 6
_INSTAGRAM_OFFSET = 3
_HOST = "127.0.0.1"
#: What the sandbox's Instagram knows PostFlow as (sandbox/core/software.py).
_INSTAGRAM_APP = ("990000000000001", "sandbox-instagram-secret")
_FACEBOOK_APP = ("880000000000001", "sandbox-facebook-secret")


def run(*, port: int, sandbox_port: int, workers: int, bare: bool, log_level: str | None = None) -> int:
    """Returns the exit code once everything has ended. `bare` starts with an empty database; `log_level` goes before the
    environment's.
    """
    _leave_tidily_when_told()  # until the supervisor listens
    check_ports(port, sandbox_port)
    home = data_directory()
    with database(home) as url:
        bring_up_to_date(url)
        chosen = {"POSTFLOW_LOG_LEVEL": log_level, "POSTFLOW_LOG_LEVEL_FILE": ""} if log_level else {}
        environment = {**os.environ, **settings(home, url, port, sandbox_port), **chosen}
        programs = plan(home, port, sandbox_port, workers)
        supervisor.say("postflow", f"the pages:    {environment['POSTFLOW_PUBLIC_URL']}")
        supervisor.say("postflow", f"the networks: {environment['POSTFLOW_SANDBOX_URL']}")
        with published_lines.announced(url), seeded(environment, bare=bare):
            supervisor.Supervisor(programs, environment).run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient Ctrl-C must not leave the database half stopped
        supervisor.say("postflow", "everything has ended")
    return 0


def shell(words: Sequence[str]) -> int:
    """psql beside whoever runs here; where nobody does, on a server that lasts as long as it. Returns its exit code."""
    psql, home = binaries.psql(), data_directory()
    _leave_tidily_when_told()
    running = None if os.environ.get("DATABASE_URL") else embedded_postgres.url_of_running(home)
    with contextlib.nullcontext(running) if running else database(home) as url:
        client = child_processes.start([psql, url, *words], dies_by=signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends a query, not the server below it
        return client.wait()


def bring_up_to_date(database_url: str) -> None:
    """Looks before it migrates: Alembic takes a second to load, at every start."""
    with db.connect(database_url) as conn:
        try:
            db.check_schema(conn)
            return
        except errors.SchemaBehind:
            pass
    from postflow.operations import migrate

    migrate.upgrade(database_url)


@contextlib.contextmanager
def seeded(environment: Mapping[str, str], *, bare: bool) -> Iterator[None]:
    """A child seeds an empty database as soon as the sandbox answers: `postflow` knows nothing of jobs."""
    if bare:
        yield
        return
    child = subprocess.Popen([sys.executable, "-m", "worker.demo"], env=dict(environment), cwd=CHECKOUT)
    try:
        yield
    finally:
        child.terminate()
        child.wait(10)


def become_sandbox(port: int, data: Path | None) -> None:
    """Replaces this process: `postflow` imports nothing of the sandbox."""
    os.chdir(CHECKOUT)
    argv = [sys.executable, "-m", "sandbox", "--port", str(port)]
    os.execv(sys.executable, argv + (["--data", str(data.absolute())] if data else []))  # noqa: S606


def check_ports(port: int, sandbox_port: int) -> None:
    if not _free(port):
        raise errors.Misconfigured(
            f"Port {port} is in use, perhaps by another PostFlow. Take: postflow dev --port {port + 1}"
        )
    taken = [str(one) for one in range(sandbox_port, sandbox_port + _SANDBOX_PORTS) if not _free(one)]
    if taken or port in range(sandbox_port, sandbox_port + _SANDBOX_PORTS):
        raise errors.Misconfigured(
            f"The sandbox networks need the ports {sandbox_port} to {sandbox_port + _SANDBOX_PORTS - 1}, and "
            f"{', '.join(taken) or port} is in use. Try: postflow dev --sandbox-port {sandbox_port + 10}"
        )


def data_directory() -> Path:
    """POSTFLOW_DATA_DIR, else `.postflow` in the checkout. Deleting it is a fresh start."""
    return Path(os.environ.get("POSTFLOW_DATA_DIR") or CHECKOUT / ".postflow").absolute()


@contextlib.contextmanager
def database(home: Path) -> Iterator[str]:
    if given := os.environ.get("DATABASE_URL"):
        home.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with embedded_postgres.EmbeddedPostgres(home) as server:
        yield server.url()


def settings(home: Path, database_url: str, port: int, sandbox_port: int) -> dict[str, str]:
    """The children's environment beside what the person set, which wins."""
    app_id, app_secret = _INSTAGRAM_APP
    ports = range(sandbox_port, sandbox_port + _SANDBOX_PORTS)
    reachable = [f"{host}:{one}" for one in ports for host in (_HOST, "localhost")]
    ours = {
        "DATABASE_URL": database_url,
        "POSTFLOW_PUBLIC_URL": f"http://localhost:{port}",
        "POSTFLOW_SANDBOX_URL": f"http://{_HOST}:{sandbox_port}",
        "POSTFLOW_ALLOWED_PRIVATE": " ".join(reachable),
        "POSTFLOW_INSTAGRAM_URL": f"http://{_HOST}:{sandbox_port + _INSTAGRAM_OFFSET}",
        "POSTFLOW_INSTAGRAM_APP_ID": app_id,
        "POSTFLOW_INSTAGRAM_APP_SECRET": app_secret,
        "POSTFLOW_FACEBOOK_APP_ID": _FACEBOOK_APP[0],
        "POSTFLOW_FACEBOOK_APP_SECRET": _FACEBOOK_APP[1],
        "PYTHONUNBUFFERED": "1",
        **kept_secrets(home),
    }
    return {name: value for name, value in ours.items() if not _set_by_the_person(name)}


def _set_by_the_person(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def kept_secrets(home: Path) -> Mapping[str, str]:
    """Made at the first start; only their owner may read the file."""
    path = home / "secrets.json"
    if not path.exists():
        from cryptography.fernet import Fernet

        made = {
            "POSTFLOW_SECRET_KEY": secrets.token_urlsafe(48),
            "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        }
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
        unfinished.rename(path)
    return json.loads(path.read_text())


def plan(home: Path, port: int, sandbox_port: int, workers: int) -> list[supervisor.Program]:
    """Who posts ends first and the networks last, so that nothing is cut off in the middle."""
    python = [sys.executable, "-m"]
    web = [*python, "gunicorn", "--config", "python:web.gunicorn", "--bind", f"{_HOST}:{port}"]
    web += ["--workers", "1", "--graceful-timeout", "3", "web.app:create_app()"]
    worker = [*python, "procrastinate", "--app=worker.app.app", "worker", "--shutdown-graceful-timeout", "5"]
    sandbox = [*python, "sandbox", "--host", _HOST, "--port", str(sandbox_port)]
    sandbox += ["--data", str(home / "sandbox.sqlite3")]
    names = ["worker"] if workers == 1 else [f"worker {number}" for number in range(1, workers + 1)]
    return [
        supervisor.Program("sandbox", sandbox, stop_order=1, grace_s=2),
        # Asked, not killed, when we are: gunicorn then takes its own children along.
        supervisor.Program("web", web, grace_s=5, dies_by=signal.SIGTERM),
        *(supervisor.Program(name, worker, grace_s=7) for name in names),
    ]


def _leave_tidily_when_told() -> None:
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
