"""Settings: read from the environment once, refused with a sentence when they make no sense.

Every setting is `POSTFLOW_<NAME>`, except `DATABASE_URL`, which platforms set by that name. Any of them may come from a
file instead: `POSTFLOW_SECRET_KEY_FILE=/run/secrets/key`. README.md lists them all; a test compares the two.
"""

import functools
import os
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from postflow.errors import Misconfigured


def _words(value: Any) -> Any:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


@functools.cache
def time_zones() -> frozenset[str]:
    """All that this machine knows, by their IANA names. Looking walks the disk, so it is done once."""
    return frozenset(available_timezones())


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
SecretWords = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """All settings with their defaults. Durations carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix="POSTFLOW_", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    # -- where things are
    database_url: SecretStr = Field(validation_alias=AliasChoices("DATABASE_URL", "database_url"))
    public_url: str = "http://localhost:8000"
    secret_key: SecretStr = Field(min_length=32)
    encryption_keys: SecretWords = Field(min_length=1)  # Fernet keys, newest first

    # -- people
    time_zone: str = "UTC"  # for people who have not chosen theirs, and for periodic jobs
    session_days: int = Field(30, ge=1, le=366)
    sign_in_attempts: str = "10 per 15 minutes"

    # -- networks
    allowed_private: Words = ()  # hosts, host:port or CIDR that addresses typed by people may reach though private
    instagram_app_id: str | None = None
    instagram_app_secret: SecretStr | None = None
    facebook_app_id: str | None = None  # for Instagram accounts that belong to a Facebook Page
    facebook_app_secret: SecretStr | None = None
    instagram_api_version: str = "v25.0"
    instagram_url: str | None = None  # one base for every Meta host: the sandbox sets it
    instagram_republish: Literal["auto", "ask"] = "ask"  # docs/instagram.md says when auto sends again
    instagram_max_hashtags: int = Field(30, ge=0)
    sandbox_url: str | None = None
    request_timeout_s: float = Field(30, gt=0, le=120)  # one request to a network, all in all

    # -- publishing
    grace_s: int = Field(6 * 3600, ge=0)  # a post later than this is `missed`, not sent
    pace_s: float = Field(10, ge=0)  # between two late posts on one account
    settle_s: float = Field(30, ge=0)  # pause before an unknown outcome is looked up
    max_faults: int = Field(8, ge=0)  # passing faults before a delivery fails
    backoff_s: float = Field(15, gt=0)  # first pause after a passing fault; doubles up to an hour

    # -- periodic jobs: cron lines read in `time_zone`
    refresh_tokens_cron: str = "0 0,6,12,18 * * *"
    verify_accounts_cron: str = "30 3 * * *"
    sweep_cron: str = "* * * * *"
    purge_cron: str = "15 4 * * *"
    keep_finished_days: int = Field(7, ge=1)  # finished queue jobs
    keep_events_days: int = Field(365, ge=1)  # the story of a finished delivery
    keep_orphans_hours: int = Field(48, ge=1)  # uploads no post uses
    keep_renditions_days: int = Field(30, ge=1)  # pictures made to fit, once their posts are over

    # -- notices: what a person should hear outside the pages
    smtp_url: SecretStr | None = None  # smtps://user:password@host:465, or smtp:// (STARTTLS)
    mail_from: str | None = Field(None, validate_default=True)
    webhook_url: SecretStr | None = None  # gets a signed JSON POST
    webhook_secret: SecretStr | None = Field(None, validate_default=True)

    # -- uploads
    max_upload_mb: int = Field(100, ge=1, le=1000)

    # -- running
    proxies: int = Field(0, ge=0, le=5)  # routers in front whose X-Forwarded-* headers are believed (Heroku, Render: 1)
    database_connections: int = Field(
        10, ge=2, le=200
    )  # at most, of each web and worker process; a worker's queue has 5 more
    concurrency: int = Field(20, ge=1, le=1000)  # jobs a worker runs at a time
    schema_patience_s: float = Field(600, ge=0)  # how long a worker that starts waits for `postflow migrate`
    stop_s: float = Field(20, ge=0, le=600)  # how long a worker may take to stop; Heroku kills after 30
    log_format: Literal["json", "text"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    metrics_token: SecretStr | None = None

    @field_validator("database_url")
    @classmethod
    def _a_postgres_url(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not url.startswith(("postgres://", "postgresql://")):
            raise ValueError("must look like postgresql://user:password@host:5432/name")
        return value

    @field_validator("public_url", "instagram_url", "sandbox_url")
    @classmethod
    def _a_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a web address such as https://postflow.example")
        return value.rstrip("/")

    @field_validator("smtp_url")
    @classmethod
    def _a_mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(value.get_secret_value()) if value else None
        if parts and (parts.scheme not in ("smtp", "smtps") or not parts.hostname):
            raise ValueError("must look like smtps://user:password@mail.example:465")
        return value

    @field_validator("mail_from")
    @classmethod
    def _a_sender(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("smtp_url") and "@" not in parseaddr(value or "")[1]:
            raise ValueError("must be the address mails come from when POSTFLOW_SMTP_URL is set")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _a_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            cls._a_web_address(value.get_secret_value())
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _a_shared_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("webhook_url") and len(value.get_secret_value() if value else "") < 16:
            raise ValueError("must be 16 characters or more when POSTFLOW_WEBHOOK_URL is set: it signs the requests")
        return value

    @field_validator("time_zone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        if value not in time_zones():
            raise ValueError("must be an IANA zone such as Europe/Berlin")
        return value

    @field_validator("refresh_tokens_cron", "verify_accounts_cron", "sweep_cron", "purge_cron")
    @classmethod
    def _a_cron_line(cls, value: str) -> str:
        from croniter import CroniterError, croniter  # a slow import that only this needs

        try:
            if len(value.split()) == 5:
                croniter(value).get_next()  # a 31st of February never comes
                return value
        except CroniterError:
            pass
        raise ValueError("must be a cron line of five fields that comes true some day, such as 0 */6 * * *")

    @field_validator("encryption_keys")
    @classmethod
    def _fernet_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        from cryptography.fernet import Fernet  # a slow import that only this needs

        for key in value:
            try:
                Fernet(key.get_secret_value())
            except ValueError:
                raise ValueError("each must be a Fernet key: make one with `postflow new-key`") from None
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises Misconfigured with one line per setting that is wrong."""
    values = _from_files(dict(os.environ if environ is None else environ))
    try:
        return Settings.model_validate({name: values[key] for name, key in _names().items() if values.get(key)})
    except ValidationError as error:
        lines = [f"{_env_name(str(e['loc'][0]))}: {_plain(e)}" for e in error.errors(include_input=False)]
        raise Misconfigured("PostFlow cannot start with these settings:\n  " + "\n  ".join(lines)) from None


def unchecked(name: str) -> str:
    """A setting as it is written, for what has to be put together before `load` looks at it. Empty when it is not to be
    had; `load` then says why.
    """
    try:
        return _from_files(dict(os.environ)).get(name, "")
    except Misconfigured:
        return ""


def _names() -> dict[str, str]:
    return {name: _env_name(name) for name in Settings.model_fields}


def _env_name(field: str) -> str:
    return "DATABASE_URL" if field.lower() == "database_url" else f"POSTFLOW_{field.upper()}"


def _plain(error: Any) -> str:
    if error["type"] == "missing":
        return "is not set"
    return str(error["msg"]).removeprefix("Value error, ")


def _from_files(environ: dict[str, str]) -> dict[str, str]:
    """`NAME_FILE` gives NAME, as Docker and Kubernetes hand over secrets."""
    for name in _names().values():
        path = environ.get(f"{name}_FILE")
        if not path:
            continue
        if environ.get(name):
            raise Misconfigured(f"Both {name} and {name}_FILE are set. Keep one of them.")
        try:
            environ[name] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Misconfigured(f"{name}_FILE: cannot read {path}: {error.strerror}") from None
    return environ
