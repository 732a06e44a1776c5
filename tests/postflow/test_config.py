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
    ],
)
def test_nonsense_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        config.load({**GOOD, name: value})


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("f" * 40 + "\n")
    given = {name: value for name, value in GOOD.items() if name != "POSTFLOW_SECRET_KEY"}
    loaded = config.load({**given, "POSTFLOW_SECRET_KEY_FILE": str(file)})
    assert loaded.secret_key.get_secret_value() == "f" * 40
