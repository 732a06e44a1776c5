"""The `postflow` command. Each subcommand is a few lines; what it does lives in a module of its own."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postflow import errors

if TYPE_CHECKING:
    import psycopg

    from postflow.config import Settings


class Sentences(click.Group):
    """Says what we raise on purpose, and what the database refuses, as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.PostFlowError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            from postflow import db

            if sentence := db.refusal(error):
                raise click.ClickException(sentence) from None
            raise


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """PostFlow: posts to Mastodon, Pixelfed and Instagram, on the second."""


@main.command()
@click.option("--wait", "wait_s", default=0.0, help="So many seconds for a database that does not answer yet.")
def migrate(wait_s: float) -> None:
    """Bring the database up to date. Run it before new code starts; several at once are safe."""
    from postflow import config, db
    from postflow.operations import migrate as migrations

    url = config.load().database_url.get_secret_value()
    with _reached(url, wait_s) as conn:
        before = db.applied_revision(conn)
        migrations.upgrade(url)
        after = db.applied_revision(conn)
    if before == after:
        click.echo(f"The database is up to date ({after}).")
    else:
        click.echo(f"Migrated from {before or 'nothing'} to {after}.")


@main.command()
@click.option("--port", default=8000, show_default=True, help="Where the pages are.")
@click.option("--sandbox-port", default=8900, show_default=True, help="Where the pretended networks are.")
@click.option("--workers", default=1, show_default=True, help="How many worker processes.")
@click.option("--bare", is_flag=True, help="Seed no demo people, accounts and posts.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="What pages and workers say; POSTFLOW_LOG_LEVEL without it.",
)
def dev(port: int, sandbox_port: int, workers: int, bare: bool, log_level: str | None) -> None:
    """Run everything here: database, sandbox networks, pages and workers. Ctrl-C ends it all."""
    from postflow.dev import command as development

    sys.exit(development.run(port=port, sandbox_port=sandbox_port, workers=workers, bare=bare, log_level=log_level))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def shell(words: tuple[str, ...]) -> None:
    """psql on the database of `postflow dev`, whether that runs or not. What follows goes to psql."""
    from postflow.dev import command as development

    sys.exit(development.shell(words))


@main.command()
@click.option("--port", default=8900, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep what was posted in this file.")
def sandbox(port: int, data: Path | None) -> None:
    """Run only the pretended networks: Mastodon, Pixelfed and Instagram in a box."""
    from postflow.dev import command as development

    development.become_sandbox(port, data)


@main.command("create-user")
@click.argument("email")
@click.option("--name", default="", help="How the pages call them.")
@click.option("--time-zone", help="Such as Europe/Berlin; POSTFLOW_TIME_ZONE without it.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
def create_user(email: str, name: str, time_zone: str | None, password_stdin: bool) -> None:
    """Let a person in. The first one becomes the owner."""
    from postflow import config, db, users

    settings = config.load()
    with db.connect(settings.database_url.get_secret_value()) as conn:
        db.check_schema(conn)
        password = sys.stdin.readline().rstrip("\n") if password_stdin else _ask_for_a_password()
        create = users.create if users.any_yet(conn) else users.create_owner
        user = create(conn, email, password, display_name=name, time_zone=_zone(time_zone or settings.time_zone))
    click.echo(f"{user.email} may sign in{' and is the owner' if user.is_owner else ''}.")


@main.command("refresh-tokens")
def refresh_tokens() -> None:
    """Refresh every access token that is due for it, now. Exit with 1 when any failed."""
    import asyncio

    from postflow.publishing import manual

    tally = asyncio.run(manual.refresh_tokens(_ready()))
    click.echo(str(tally))
    for failure in tally.failures:
        click.echo(f"{failure.handle}: {failure.sentence}")
    sys.exit(bool(tally.failures))


@main.command()
@click.option("--dry-run", is_flag=True, help="Only list what is due.")
def due(dry_run: bool) -> None:
    """Publish what is due or overdue, now. Safe beside running workers. Exit with 1 when any could not go out."""
    import asyncio

    from postflow.publishing import manual

    said = list[str]()

    def say(line: str) -> None:
        said.append(line)
        click.echo(line)

    failed = asyncio.run(manual.publish_due(_ready(), say, dry_run=dry_run))
    if not said:
        click.echo("Nothing is due.")
    sys.exit(bool(failed))


@main.command()
def doctor() -> None:
    """Check the settings, the database and the workers, and say what to do about each fault."""
    from postflow.operations import doctor as checks

    faults, colours = 0, {"ok": "green", "WARN": "yellow", "FAULT": "red"}
    for finding in checks.examine():
        faults += not finding.well
        click.secho(f"{finding.word:<6}", fg=colours[finding.word], nl=False)
        click.echo(f"{finding.subject}: {finding.sentence}")
    sys.exit(min(faults, 1))


@main.command()
def restored() -> None:
    """Run once after restoring a backup, before workers start: what was due since is looked for, not sent again."""
    import asyncio

    from postflow import db
    from postflow.operations import doctor as checks
    from postflow.publishing import restoring

    settings = _ready()
    with db.connect(settings.database_url.get_secret_value()) as conn:
        if checks.workers(conn).well:
            raise errors.Misconfigured(
                "A worker is running on this database. Stop all workers, wait half a minute, try again."
            )
    held = asyncio.run(restoring.hold_overdue(settings))
    click.echo(
        f"{held} deliveries were due since the backup and may be out already. Workers look for them on their accounts; where"
        " that does not tell, their people hear of it and decide."
    )


@main.command()
@click.argument("role", type=click.Choice(["worker"]))
def health(role: str) -> None:
    """Exit with 0 while the worker of this machine or container lives and does not stand still, for its health check."""
    from postflow.operations import heartbeat

    sign = heartbeat.sign()
    click.echo(sign.sentence)
    sys.exit(not sign.well)


@main.command("new-key")
def new_key() -> None:
    """Print a fresh key for POSTFLOW_ENCRYPTION_KEYS. Put it before the old ones; those still open what they closed."""
    from cryptography.fernet import Fernet

    click.echo(Fernet.generate_key().decode())


@main.command()
def version() -> None:
    """Say which release this is."""
    from importlib import metadata

    click.echo(metadata.version("postflow"))


def _reached(database_url: str, wait_s: float) -> "psycopg.Connection":
    from postflow import db

    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            return db.connect(database_url)
        except db.Unreachable:
            if time.monotonic() >= give_up_at:
                raise
        time.sleep(0.5)


def _ready() -> "Settings":
    """The settings, once the database is known to be up to date. Log lines go to standard error."""
    from postflow import config, db, logs

    settings = config.load()
    logs.configure(settings)
    with db.connect(settings.database_url.get_secret_value()) as conn:
        db.check_schema(conn)
    return settings


def _ask_for_a_password() -> str:
    return click.prompt("Password", hide_input=True, confirmation_prompt=True)


def _zone(name: str) -> str:
    from postflow import config

    if name not in config.time_zones():
        raise click.BadParameter(f"{name} is not an IANA zone such as Europe/Berlin.", param_hint="--time-zone")
    return name
