"""Settings: one table in the README, sentences for nonsense, secrets from files."""

from pathlib import Path

import pytest

from postflow import config
from postflow.errors import Misconfigured

GOOD = {
    "DATABASE_URL": "postgres://someone@localhost/postflow",
    "POSTFLOW_SECRET_KEY": "s" * 40,
    "POSTFLOW_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}


def test_the_readme_names_every_setting() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for field in config.Settings.model_fields:
        name = "DATABASE_URL" if field == "database_url" else f"POSTFLOW_{field.upper()}"
        assert f"`{name}`" in readme


def test_a_postgres_address_of_either_spelling_is_taken() -> None:
    assert config.load(GOOD).database_url.get_secret_value() == GOOD["DATABASE_URL"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x"),
        ("POSTFLOW_SECRET_KEY", "short"),
        ("POSTFLOW_ENCRYPTION_KEYS", "no key"),
        ("POSTFLOW_TIME_ZONE", "Mars/Base"),
        ("POSTFLOW_PUBLIC_URL", "postflow"),
        ("POSTFLOW_GRACE_S", "soon"),
        ("POSTFLOW_SMTP_URL", "mail.example.org"),
        ("POSTFLOW_WEBHOOK_URL", "hooks.example.org"),
    ],
)
def test_nonsense_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        config.load({**GOOD, name: value})


@pytest.mark.parametrize("name", ["REFRESH_TOKENS", "VERIFY_ACCOUNTS", "SWEEP", "PURGE"])
@pytest.mark.parametrize(
    "line", ["hourly", "@hourly", "* * * *", "* * * * * *", "61 * * * *", "* * * * 8", "0 0 31 2 *", "every 5 min utes"]
)
def test_a_cron_line_that_never_comes_true_is_named(name: str, line: str) -> None:
    with pytest.raises(Misconfigured, match=f"POSTFLOW_{name}_CRON: must be a cron line of five fields"):
        config.load({**GOOD, f"POSTFLOW_{name}_CRON": line})


@pytest.mark.parametrize("line", ["*/5 * * * *", "0 0,6 * * mon-fri", "0 0 29 2 *"])
def test_a_cron_line_of_five_fields_is_taken(line: str) -> None:
    assert config.load({**GOOD, "POSTFLOW_PURGE_CRON": line}).purge_cron == line


def test_the_usual_cron_lines_would_be_taken_as_well() -> None:
    usual = {name: field.default for name, field in config.Settings.model_fields.items() if name.endswith("_cron")}
    assert len(usual) == 4
    config.load({**GOOD, **{f"POSTFLOW_{name.upper()}": line for name, line in usual.items()}})


def test_a_setting_can_be_had_before_the_others_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text(GOOD["DATABASE_URL"] + "\n")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert config.unchecked("DATABASE_URL") == ""
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    assert config.unchecked("DATABASE_URL") == GOOD["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "nothing"))
    assert config.unchecked("DATABASE_URL") == "", "load() says what is wrong"


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("f" * 40 + "\n")
    given = {name: value for name, value in GOOD.items() if name != "POSTFLOW_SECRET_KEY"}
    loaded = config.load({**given, "POSTFLOW_SECRET_KEY_FILE": str(file)})
    assert loaded.secret_key.get_secret_value() == "f" * 40


@pytest.mark.parametrize(
    ("name", "value", "missing"),
    [
        ("POSTFLOW_SMTP_URL", "smtps://robot:pass@mail.example.org", "POSTFLOW_MAIL_FROM"),
        ("POSTFLOW_WEBHOOK_URL", "https://hooks.example.org/x", "POSTFLOW_WEBHOOK_SECRET"),
    ],
)
def test_a_way_of_telling_people_names_what_it_needs_and_keeps_its_password(
    name: str, value: str, missing: str
) -> None:
    with pytest.raises(Misconfigured, match=missing):
        config.load({**GOOD, name: value})
    filled = {"POSTFLOW_MAIL_FROM": "PostFlow <postflow@example.org>", "POSTFLOW_WEBHOOK_SECRET": "s" * 16}
    assert value not in repr(config.load({**GOOD, name: value, **filled}))
