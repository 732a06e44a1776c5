"""The files that platforms read: they name things that exist, and agree with each other."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from postflow import cli, config, db

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROCFILE = dict(
    line.split(": ", 1) for line in (CHECKOUT / "Procfile").read_text().splitlines() if not line.startswith("#")
)
KNOWN = {"DATABASE_URL", *(f"POSTFLOW_{name.upper()}" for name in config.Settings.model_fields)}


def read_yaml(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the lint group: run `python3 run.py lint` once")
    return yaml.safe_load((CHECKOUT / name).read_text())


def test_the_procfile_has_a_release_a_web_and_a_worker():
    assert list(PROCFILE) == ["release", "web", "worker"]
    assert PROCFILE["worker"] == "procrastinate --app=worker.app.app worker"


@pytest.mark.parametrize("role", PROCFILE)
def test_each_role_runs_a_program_that_an_installation_has(role: str):
    program, *arguments = shlex.split(PROCFILE[role])
    assert os.access(BIN / program, os.X_OK)
    if program == "postflow":
        assert arguments[0] in cli.main.commands


def test_a_shell_hands_each_command_over_as_it_stands():
    """Parentheses outside quotes are a syntax error to `sh`, which is what runs a Procfile."""
    for command in PROCFILE.values():
        subprocess.run(["sh", "-n", "-c", command], check=True)


def test_compose_starts_the_same_commands_and_nothing_before_its_time():
    services = read_yaml("docker-compose.yml")["services"]
    assert set(services) == {"db", "migrate", "web", "worker"}
    assert services["migrate"]["command"] == [*shlex.split(PROCFILE["release"]), "--wait=60"]
    assert services["worker"]["command"] == shlex.split(PROCFILE["worker"])
    assert "command" not in services["web"], "the image's own"
    assert "depends_on" not in services["migrate"], (
        "it waits by itself; Podman cannot start a chain whose middle has ended"
    )
    for role in ("web", "worker"):
        assert services[role]["depends_on"] == {
            "db": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
        assert services[role]["restart"] == "unless-stopped"
    assert services["worker"]["healthcheck"]["test"] == ["CMD", "postflow", "health", "worker"]


def test_compose_restarts_what_dies_watches_over_each_and_lets_no_log_fill_the_disk():
    services = read_yaml("docker-compose.yml")["services"]
    for role in ("db", "web", "worker"):
        assert services[role]["restart"] == "unless-stopped", role
        logs = {
            "driver": "json-file",
            "options": {"max-size": "10m", "max-file": "5"},
        }  # Podman knows no other that ends
        assert services[role]["logging"] == logs, role
    assert services["migrate"]["restart"] == "on-failure"
    assert services["migrate"]["healthcheck"] == {"disable": True}
    for role in ("db", "worker"):
        assert {"test", "interval", "timeout", "retries"} <= set(services[role]["healthcheck"]), role
    assert "healthcheck" not in services["web"], "the image's own asks /healthz"
    assert re.search(r"HEALTHCHECK .*\\\n.*healthz", (CHECKOUT / "Dockerfile").read_text())


def test_every_variable_that_compose_needs_is_in_the_example():
    needed = set(re.findall(r"\$\{(\w+):\?", (CHECKOUT / "docker-compose.yml").read_text()))
    assert needed == {"POSTGRES_PASSWORD", "POSTFLOW_SECRET_KEY", "POSTFLOW_ENCRYPTION_KEYS"}
    example = (CHECKOUT / ".env.example").read_text()
    assert all(re.search(rf"^{name}=", example, re.MULTILINE) for name in needed)


def test_the_connections_of_the_smallest_heroku_database_suffice():
    """Essential databases take 20; a basic dyno sets WEB_CONCURRENCY to 2; a worker's queue has its own and the bell's,
    a migration takes three, and two are left for `postflow doctor`.
    """
    wanted = json.loads((CHECKOUT / "app.json").read_text())
    assert wanted["addons"] == ["heroku-postgresql:essential-0"]
    each = int(wanted["env"]["POSTFLOW_DATABASE_CONNECTIONS"]["value"])
    web, workers = wanted["formation"]["web"]["quantity"] * 2, wanted["formation"]["worker"]["quantity"]
    assert web * each + workers * (each + db.QUEUE_CONNECTIONS + 1) + 3 + 2 <= 20


def test_the_connections_of_a_worker_s_queue_are_counted_alike_everywhere():
    said = f"a worker's queue has {db.QUEUE_CONNECTIONS + 1} more"
    for name in ("README.md", "postflow/config.py"):
        assert said in (CHECKOUT / name).read_text(), name
    assert f"as many and {db.QUEUE_CONNECTIONS + 1} for its queue" in (CHECKOUT / "docs" / "operations.md").read_text()


def test_one_python_is_named_everywhere():
    heroku = re.search(r"echo (3\.\d+) > .python-version", (CHECKOUT / "bin" / "pre_compile").read_text())
    assert heroku
    assert set(re.findall(r"^FROM python:(3\.\d+)-slim", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)) == {
        heroku[1]
    }
    group = read_yaml("render.yaml")["envVarGroups"][0]["envVars"]
    [render] = [one["value"] for one in group if one["key"] == "PYTHON_VERSION"]
    assert render.startswith(f"{heroku[1]}.")


def test_gunicorn_stops_before_it_is_killed_and_outlives_a_slow_disk():
    from web import gunicorn, whole_requests

    grace = read_yaml("docker-compose.yml")["services"]["web"]["stop_grace_period"]
    assert gunicorn.graceful_timeout < int(grace.removesuffix("s")) < 30
    assert gunicorn.worker_class == f"{whole_requests.Worker.__module__}.Worker"
    assert gunicorn.logger_class == "web.middleware.access_log.AccessLog"


def test_the_worker_gets_longer_to_stop_than_it_takes():
    stop_s = config.Settings.model_fields["stop_s"].default
    grace = read_yaml("docker-compose.yml")["services"]["worker"]["stop_grace_period"]
    render = next(s for s in read_yaml("render.yaml")["services"] if s["type"] == "worker")
    assert int(grace.removesuffix("s")) > stop_s
    assert render["maxShutdownDelaySeconds"] > stop_s
    assert stop_s < 30, "Heroku's pause between SIGTERM and SIGKILL"


def test_render_starts_the_same_commands():
    services = {service["type"]: service for service in read_yaml("render.yaml")["services"]}
    uv = "uv run --no-sync "
    assert services["web"]["preDeployCommand"] == uv + PROCFILE["release"]
    assert services["web"]["startCommand"] == uv + PROCFILE["web"]
    assert services["worker"]["startCommand"] == uv + PROCFILE["worker"]
    assert {service["buildCommand"] for service in services.values()} == {"uv sync --locked --no-default-groups"}


def test_the_platforms_are_asked_only_for_settings_that_exist():
    asked = set(json.loads((CHECKOUT / "app.json").read_text())["env"])
    asked |= set(re.findall(r"\bPOSTFLOW_[A-Z_]+", (CHECKOUT / "render.yaml").read_text()))
    asked |= set(re.findall(r"^(POSTFLOW_[A-Z_]+)=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    asked |= set(re.findall(r"^ +(POSTFLOW_[A-Z_]+):", (CHECKOUT / "docker-compose.yml").read_text(), re.MULTILINE))
    assert asked
    assert asked <= KNOWN


def test_what_has_no_default_is_asked_for_everywhere():
    needed = {f"POSTFLOW_{name.upper()}" for name, field in config.Settings.model_fields.items() if field.is_required()}
    needed -= {"POSTFLOW_DATABASE_URL"}  # which the platforms' own databases give
    for name in ("app.json", "render.yaml", "docker-compose.yml", ".env.example"):
        missing = {setting for setting in needed if setting not in (CHECKOUT / name).read_text()}
        assert not missing, name


def test_the_image_runs_the_procfiles_web_as_nobody_special():
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert json.loads(command) == shlex.split(PROCFILE["web"])
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["postflow"]


def test_the_images_health_check_asks_the_port_it_serves():
    (check,) = re.findall(r"^HEALTHCHECK .*\n +CMD (\[.*\])$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    command = [sys.executable, *json.loads(check)[1:]]
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        port = {"PORT": str(server.server_port)}
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        assert subprocess.run(command, env=port).returncode == 0
        answering.join()
    assert subprocess.run(command, env=port, stderr=subprocess.DEVNULL).returncode == 1


def test_the_image_gets_every_package_and_nothing_else():
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert allowed == {*packages, "pyproject.toml", "uv.lock", "README.md"}


def test_everybody_builds_with_the_same_uv():
    from run import UV_VERSION

    assert f"uv=={UV_VERSION}" in (CHECKOUT / "Dockerfile").read_text()
    assert f"value: {UV_VERSION}" in (CHECKOUT / "render.yaml").read_text()


def test_heroku_finds_a_python_version_that_the_repository_does_not_carry(tmp_path: Path):
    """Its buildpack refuses uv without the file; on a machine with pyenv it would refuse every other Python."""
    assert not (CHECKOUT / ".python-version").exists()
    subprocess.run([CHECKOUT / "bin" / "pre_compile"], cwd=tmp_path, check=True)
    version = (tmp_path / ".python-version").read_text().strip()
    assert re.fullmatch(r"3\.\d+", version)
    assert int(version.removeprefix("3.")) >= 11
    assert f"python:{version}-slim" in (CHECKOUT / "Dockerfile").read_text()


def test_heroku_finds_exactly_one_lock_file():
    known = ["uv.lock", "requirements.txt", "poetry.lock", "Pipfile", "Pipfile.lock", "runtime.txt", "setup.py"]
    assert [name for name in known if (CHECKOUT / name).exists()] == ["uv.lock"]


def test_what_the_image_holds_installs_and_runs_without_the_tools_of_development(tmp_path: Path):
    """The Dockerfile's steps without a container: its files alone, its command, its programs."""
    from run import find_uv

    uv = find_uv()
    if not uv:
        pytest.skip("no uv here")
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            copy(CHECKOUT / line[1:], tmp_path / line[1:])
    unset = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["UV_PYTHON"] = getattr(sys, "_base_executable", sys.executable)
    subprocess.run(
        [uv, "sync", "--locked", "--no-default-groups", "--quiet"], cwd=tmp_path, env=environment, check=True
    )
    programs = tmp_path / ".venv" / "bin"
    said = subprocess.run([programs / "postflow", "version"], env=environment, capture_output=True, text=True, cwd="/")
    assert (said.returncode, said.stdout.strip(), said.stderr) == (0, pyproject()["project"]["version"], "")
    code = "import web.gunicorn, worker.app, postflow.operations.migrate, importlib.util as u; print(u.find_spec('pytest'))"
    said = subprocess.run([programs / "python", "-c", code], env=environment, capture_output=True, text=True, cwd="/")
    assert (said.stdout.strip(), said.stderr) == ("None", "")


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
