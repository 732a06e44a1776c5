"""What is written to the log, and what never is."""

import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from postflow import config, logs

SECRET = "s3cret-t0ken-that-nobody-may-read"
Lines = Callable[[], str]


@pytest.fixture
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What came out, in the format the test was given."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logging.getLogger().addHandler(logging.StreamHandler())  # as the `procrastinate` command leaves it
    logs.configure(settings(request.param))
    logs.configure(settings(request.param))
    return out.getvalue


def settings(log_format: str) -> config.Settings:
    environment = {
        "DATABASE_URL": "postgresql://localhost/x",
        "POSTFLOW_SECRET_KEY": "k" * 40,
        "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "POSTFLOW_LOG_FORMAT": log_format,
    }
    return config.load(environment)


both = pytest.mark.parametrize("written", ["json", "text"], indirect=True)


def fail_with(token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    raise ValueError(f"no answer to {len(headers)} header")


@both
def test_a_traceback_does_not_show_the_values_of_variables(written: Lines):
    try:
        fail_with(SECRET)
    except ValueError:
        structlog.stdlib.get_logger("postflow.test").exception("it broke")
    said = written()
    assert "no answer to 1 header" in said
    assert "fail_with" in said
    assert SECRET not in said


@both
@pytest.mark.parametrize(
    "message",
    [
        f"GET https://graph.example/me?fields=id&access_token={SECRET} failed",
        f"GET https://graph.example/refresh?grant_type=x&refresh_token={SECRET}",
        f"redirected to /accounts/callback?code={SECRET}&state={SECRET}",
        f"sent Authorization: Bearer {SECRET}",
        f"GET https://flow.example/m/{SECRET} 200",
        f"could not connect to postgresql://flow:{SECRET}@db/flow",
    ],
)
def test_secrets_in_other_peoples_messages_are_taken_out(written: Lines, message: str):
    logging.getLogger("some.library").warning(message)
    try:
        raise OSError(message)
    except OSError:
        structlog.stdlib.get_logger("postflow.test").exception("it broke", why=message)
    said = written()
    assert "(hidden)" in said
    assert SECRET not in said


@both
def test_what_is_logged_under_the_name_of_a_secret_is_hidden(written: Lines):
    secrets: dict[str, Any] = {"access_token": SECRET, "cookie": SECRET, "new_password": SECRET}
    structlog.stdlib.get_logger("postflow.test").info("connected", account=7, **secrets)
    said = written()
    assert "connected" in said
    assert "7" in said
    assert SECRET not in said


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_each_line_is_one_json_object_and_said_once_beside_a_plain_handler_of_before(written: Lines):
    logging.getLogger("postflow.test").info("once")
    [line] = written().splitlines()
    assert json.loads(line)["event"] == "once"


def test_a_logger_that_has_spoken_before_goes_by_what_is_configured_now():
    log = structlog.stdlib.get_logger("postflow.test")
    logs.configure(settings("json"))
    log.warning("first")
    structlog.reset_defaults()
    with capture_logs() as told:
        log.warning("second")
    assert [one["event"] for one in told] == ["second"]
