"""The command: `python3 run.py chaos`. Ends with 1 when anything went out twice, got lost, stuck or is unexplained."""

import json
import secrets
import sys

import click

from chaos import havoc, people, plan, stage, verdict


@click.command()
@click.option("--deliveries", default=5000, show_default=True, help="At least so many.")
@click.option("--kills", default=300, show_default=True, help="Workers killed with -9.")
@click.option("--restarts", default=5, show_default=True, help="Restarts of the database, every other one a crash.")
@click.option("--workers", default=4, show_default=True)
@click.option(
    "--minutes", type=float, help="How long posts are due; by default from the number of deliveries and kills."
)
@click.option("--seed", type=int, help="Replays a plan; drawn and printed without it.")
@click.option(
    "--json", "as_json", is_flag=True, help="The last line of standard output is one object with the figures."
)
def main(
    deliveries: int, kills: int, restarts: int, workers: int, minutes: float | None, seed: int | None, as_json: bool
) -> None:
    """Publish many posts while workers are killed, the database restarts and the networks misbehave."""
    length_s = minutes * 60 if minutes else max(30.0, deliveries / 7, kills * 2.4)
    drawn = plan.draw(
        secrets.randbelow(10**6) if seed is None else seed,
        deliveries=deliveries,
        kills=kills,
        restarts=restarts,
        length_s=length_s,
    )
    reached = run(drawn, workers, havoc.to_stderr)
    tell(reached)
    if as_json:
        click.echo(json.dumps(reached.figures()))
    sys.exit(not reached.well)


def run(drawn: plan.Plan, workers: int, say: havoc.Say) -> verdict.Verdict:
    say(f"seed {drawn.seed}: {drawn.deliveries} deliveries to {len(drawn.accounts)} accounts in {drawn.length_s:.0f} s")
    with stage.built() as built:
        everybody = people.People(built, drawn)
        everybody.move_in()
        everybody.write_all()
        havoc.wreak(built, drawn, everybody, workers, say)
        stuck = havoc.let_it_end(built, say)
        say(f"people asked for {everybody.deeds} changes, {everybody.refused} came too late")
        return verdict.reached(built, drawn, stuck)


def tell(reached: verdict.Verdict) -> None:
    click.echo(f"seed {reached.seed}, {reached.requests} requests, {reached.faulted:.0%} of them faulted")
    click.echo(", ".join(f"{count} {status}" for status, count in sorted(reached.by_status.items())))
    for line in [*reached.twice, *reached.lost]:
        click.echo(f"WRONG  {line}")
    for row, because in reached.attention:
        click.echo(f"to be looked at  {row.handle} ({row.platform}): {row.error} Because: {because or 'NOTHING KNOWN'}")


if __name__ == "__main__":
    main()
