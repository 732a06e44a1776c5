"""The command: `python3 run.py chaos`. Ends with 1 when anything went out twice, got lost, stuck or is unexplained."""

import json
import secrets
import shutil
import sys

import click

from chaos import drain, evidence, execution, people, plan, stage, verdict


@click.command()
@click.option("--deliveries", default=5000, show_default=True, help="At least so many.")
@click.option("--kills", default=300, show_default=True, help="Workers killed with -9.")
@click.option("--restarts", default=5, show_default=True, help="Restarts of the database, every other one a crash.")
@click.option("--workers", default=4, show_default=True)
@click.option(
    "--minutes", type=float, help="How long posts are due; by default from the number of deliveries and kills."
)
@click.option("--seed", type=int, help="Draws the same plan again; drawn and printed without it.")
@click.option(
    "--json", "as_json", is_flag=True, help="The last line of standard output is one object with the figures."
)
def main(
    deliveries: int, kills: int, restarts: int, workers: int, minutes: float | None, seed: int | None, as_json: bool
) -> None:
    """Publish many posts while workers are killed, the database restarts and the networks misbehave."""
    length_s = minutes * 60 if minutes else max(30.0, deliveries / 7, kills * 2.4)
    seed = secrets.randbelow(10**6) if seed is None else seed
    drawn = plan.draw(seed, deliveries=deliveries, kills=kills, restarts=restarts, length_s=length_s)
    execution.to_stderr(
        f"python3 run.py chaos --seed {seed} --deliveries {deliveries} --kills {kills} --restarts {restarts}"
        f" --workers {workers} --minutes {length_s / 60:g}"
    )
    reached = run(drawn, workers, execution.to_stderr)
    tell(reached)
    if as_json:
        click.echo(json.dumps(reached.figures()))
    sys.exit(not reached.well)


def run(drawn: plan.Plan, workers: int, say: execution.Say) -> verdict.Verdict:
    say(f"{drawn.deliveries} deliveries to {len(drawn.accounts)} accounts in {drawn.length_s:.0f} s")
    with stage.built() as built:
        say(f"logs of workers and pages in {built.home}, removed when all is well")
        everybody = people.People(built, drawn)
        everybody.move_in()
        everybody.write_all()
        execution.wreak(built, drawn, everybody, workers, say)
        left = drain.let_it_end(built, everybody, say)
        built.end()
        reached = verdict.Verdict(evidence.gathered(built, drawn, everybody, left))
    if reached.well:
        shutil.rmtree(built.home, ignore_errors=True)
    return reached


def tell(reached: verdict.Verdict) -> None:
    known = reached.evidence
    click.echo(
        f"{len(known.requests)} requests, {known.faulted:.1%} of those before the end faulted: {_counted(known.fault_kinds)}"
    )
    click.echo(
        f"{known.blows.sending} deliveries were being sent and {known.blows.preparing} prepared when their worker died;"
        f" {known.freezes} frozen workers went on"
    )
    told = [wish.outcome for wish in known.wishes]
    click.echo(f"people asked for {len(told)} changes: {_counted({one: told.count(one) for one in set(told)})}")
    click.echo(_counted(reached.by_status))
    for row, because in reached.attention:
        click.echo(
            f"to be looked at  {row.handle} ({row.platform}): {row.error} Open, for {because or 'NO KNOWN REASON'}"
        )
    for line in (*reached.found.doubled, *reached.found.incomplete):
        click.echo(f"as told        {line}")
    for line in reached.complaints:
        click.echo(f"WRONG  {line}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


if __name__ == "__main__":
    main()
