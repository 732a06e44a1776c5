"""The `postflow` command. Each subcommand is a few lines; what it does lives in a module of its own."""

import sys
from pathlib import Path
from typing import Any

import click

from postflow import errors


class Sentences(click.Group):
    """Says what we raise on purpose as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.PostFlowError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """PostFlow: posts to Mastodon, Pixelfed and Instagram, on the second."""


@main.command()
def migrate() -> None:
    """Bring the database up to date. Run it before new code starts; several at once are safe."""
    from postflow import config, db
    from postflow import migrate as migrations

    url = config.load().database_url.get_secret_value()
    with db.connect(url) as conn:
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
def dev(port: int, sandbox_port: int, workers: int, bare: bool) -> None:
    """Run everything here: database, sandbox networks, pages and workers. Ctrl-C ends it all."""
    from postflow import dev as development

    sys.exit(development.run(port=port, sandbox_port=sandbox_port, workers=workers, bare=bare))


@main.command()
@click.option("--port", default=8900, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep what was posted in this file.")
def sandbox(port: int, data: Path | None) -> None:
    """Run only the pretended networks: Mastodon, Pixelfed and Instagram in a box."""
    from postflow import dev as development

    development.become_sandbox(port, data)


@main.command()
def doctor() -> None:
    """Check the settings, the database and the workers, and say what to do about each fault."""
    from postflow import doctor as checks

    faults = 0
    for finding in checks.examine():
        faults += not finding.well
        click.secho("ok    " if finding.well else "FAULT ", fg="green" if finding.well else "red", nl=False)
        click.echo(f"{finding.subject}: {finding.sentence}")
    sys.exit(min(faults, 1))


@main.command()
@click.argument("role", type=click.Choice(["worker"]))
def health(role: str) -> None:
    """Exit with 0 while a worker is alive, for a container's health check."""
    from postflow import config, db
    from postflow import doctor as checks

    with db.connect(config.load().database_url.get_secret_value()) as conn:
        finding = checks.workers(conn)
    click.echo(finding.sentence)
    sys.exit(not finding.well)


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
