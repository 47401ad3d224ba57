"""Commands on what a sync remembers: state show, state baseline, state forget, state reset."""

from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, ask, cost_of_sending_all, load, print_json, print_table, say, screen
from reverse_etl.cli.options import (
    AcceptSchemaChange,
    Output,
    OutputFormat,
    ProjectFolder,
    SyncName,
    TargetName,
    Variables,
    Wait,
    Yes,
)

app = typer.Typer()


@app.command(name="show", cls=ProjectCommand)
def state_show(
    name: SyncName,
    key: Annotated[
        str | None, typer.Option("--key", help="Show the row of this key, as `retl rejects` has it.")
    ] = None,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show what Braze has acknowledged of a sync: how many rows, which columns; or one row."""
    from reverse_etl.state.look import acknowledged_row, describe_state

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    found = describe_state(project, chosen) if key is None else acknowledged_row(project, chosen, key)
    if output is Output.JSON:
        print_json(found)
    elif key is None:
        print_table((_label(one), f"{value:,}" if isinstance(value, int) else value) for one, value in found.items())
    else:
        print_table(found.items())


def _label(key: str) -> str:
    """A key of the JSON for people."""
    return key.replace("_", " ").replace("braze", "Braze")


@app.command(name="baseline", cls=ProjectCommand)
def state_baseline(
    name: SyncName,
    accept_schema_change: AcceptSchemaChange = False,
    wait: Wait = 0,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Take what the model returns now as already in Braze: only later changes go out. Sends nothing."""
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import baseline, jobs_of
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(f"every valid row of {name} is taken as already in Braze, and is not sent until it changes", yes)
    options = Options(accept_schema_change=accept_schema_change, wait_s=wait)
    (job,) = jobs_of(project, [chosen], options, screen())
    plan = baseline(job)
    invalid = f"; {count(plan.invalid, 'invalid row')} left out, see `retl rejects {name}`" if plan.invalid else ""
    print(f"{name}: {count(plan.baselined, 'row')} taken as in Braze, 0 requests{invalid}")


@app.command(name="forget", cls=ProjectCommand)
def state_forget(
    name: SyncName,
    key: Annotated[str, typer.Argument(help="A key, as `retl rejects` has it, or an identifier.", show_default=False)],
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Erase a person from all that a sync remembers: acknowledged rows, rejects, rows in doubt."""
    from reverse_etl.state.edit import forget
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(f'{name} forgets "{key}"; if the model returns it, the next run sends it again', yes)
    gone = forget(project, chosen, key)
    rows = f"{count(gone.acknowledged, 'acknowledged row')}, {gone.rejected:,} rejected, {gone.in_doubt:,} in doubt"
    print(f"{name}: {rows} forgotten")
    for place in gone.copies:
        say(f"{place} is an older state that was kept aside: delete it if it must go too")
    if project.state_url(chosen):
        say("a bucket that keeps versions still has the older ones: let them expire, or delete them there")


@app.command(name="reset", cls=ProjectCommand)
def state_reset(
    name: SyncName,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Forget what Braze has acknowledged: the next run sends every row again. The old state is kept aside."""
    from reverse_etl.state.edit import reset

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(cost_of_sending_all([chosen]), yes)
    aside = reset(project, chosen)
    say(f"{name}: the old state is kept in {aside}" if aside else f"{name}: there was no state")
