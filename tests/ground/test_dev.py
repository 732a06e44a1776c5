"""`postflow dev` before anything runs: ports, secrets, the children's settings."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from postflow import cli, config, errors
from postflow.dev import command


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("POSTFLOW_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def test_the_children_get_settings_they_accept(tmp_path: Path):
    settings = config.load(command.settings(tmp_path, "postgresql://postflow@/postflow?host=/tmp/x", 8000, 8900))
    assert settings.public_url == "http://localhost:8000"
    assert settings.sandbox_url == "http://127.0.0.1:8900"
    assert settings.instagram_url == "http://127.0.0.1:8903"
    assert "127.0.0.1:8901" in settings.allowed_private
    assert "127.0.0.1:8899" not in settings.allowed_private


def test_the_sandboxes_instagram_is_where_and_who_dev_says(tmp_path: Path):
    from sandbox import registry

    names = [name for name, *_ in registry.DEFAULTS]
    ours = command.settings(tmp_path, "postgresql://x/y", 8000, 8900)
    assert ours["POSTFLOW_INSTAGRAM_URL"].endswith(str(8900 + 1 + names.index("instagram")))
    assert len(ours["POSTFLOW_ALLOWED_PRIVATE"].split()) == 2 * (1 + len(names))
    profile = registry.profile("instagram")
    assert ours["POSTFLOW_INSTAGRAM_APP_ID"] == profile.app_id
    assert ours["POSTFLOW_INSTAGRAM_APP_SECRET"] == profile.app_secret
    assert ours["POSTFLOW_FACEBOOK_APP_ID"] == profile.facebook_app_id
    assert ours["POSTFLOW_FACEBOOK_APP_SECRET"] == profile.facebook_app_secret


def test_what_the_person_set_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POSTFLOW_PUBLIC_URL", "https://tunnel.example")
    monkeypatch.setenv("POSTFLOW_SECRET_KEY_FILE", "/run/secrets/key")
    ours = command.settings(tmp_path, "postgresql://x/y", 8000, 8900)
    assert not {"POSTFLOW_PUBLIC_URL", "POSTFLOW_SECRET_KEY"} & ours.keys()


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path):
    made = command.kept_secrets(tmp_path)
    assert command.kept_secrets(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "secrets.json").read_text()) == made
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_a_database_of_the_persons_own_is_used_and_no_server_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    with command.database(tmp_path / "home") as url:
        assert url == "postgresql://somewhere/else"
    assert list((tmp_path / "home").iterdir()) == []


def test_a_shell_without_psql_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POSTFLOW_PG_BINDIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    said = CliRunner().invoke(cli.main, ["shell", "-c", "SELECT 1"])
    assert said.exit_code == 1
    assert "Error: No psql was found. Install PostgreSQL's client" in said.output


def test_a_taken_port_is_named_with_the_option_to_change_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.Misconfigured, match=rf"Port {port} is in use.*--port \d+"):
            command.check_ports(port, 18350)
        with pytest.raises(errors.Misconfigured, match=rf"\b{port}\b.* is in use.*--sandbox-port \d+"):
            command.check_ports(18341, port - 2)


def test_a_port_of_the_pages_within_the_sandboxes_range_is_refused():
    with pytest.raises(errors.Misconfigured, match="18352 is in use"):
        command.check_ports(18352, 18350)


def test_each_worker_has_a_name_of_its_own_and_the_networks_go_last(tmp_path: Path):
    programs = command.plan(tmp_path, 8000, 8900, workers=2)
    assert [program.name for program in programs] == ["sandbox", "web", "worker 1", "worker 2"]
    assert max(programs, key=lambda program: program.stop_order).name == "sandbox"
    longest = sum(max(p.grace_s for p in programs if p.stop_order == order) for order in (0, 1))
    assert longest <= 10
