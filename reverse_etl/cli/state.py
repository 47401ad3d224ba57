"""Commands on the state of a sync: state show, state baseline, state forget, state reset."""

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
        str | None, typer.Option("--key", help="Show the row with this key, as shown by `retl rejects`.")
    ] = None,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show what Braze has acknowledged for a sync: number of rows, columns, primary key; or one row with --key."""
    from reverse_etl.state.look import acknowledged_row, describe_state

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    found = describe_state(project, chosen) if key is None else acknowledged_row(project, chosen, key)
    if output is Output.JSON:
        print_json(found, raw=key is not None)
    elif key is None:
        print_table((_label(one), f"{value:,}" if isinstance(value, int) else value) for one, value in found.items())
    else:
        print_table(found.items(), raw=True)


def _label(key: str) -> str:
    """A key of the JSON, as a label for people."""
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
    """Record the model's current rows as already in Braze, so that only later changes are sent. Sends nothing."""
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import baseline, jobs_of
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(f"every valid row of {name} will be recorded as already in Braze, and not sent until it changes", yes)
    options = Options(accept_schema_change=accept_schema_change, wait_s=wait)
    (job,) = jobs_of(project, [chosen], options, screen())
    plan = baseline(job)
    invalid = f"; {count(plan.invalid, 'invalid row')} not recorded, see `retl rejects {name}`" if plan.invalid else ""
    print(f"{name}: {count(plan.baselined, 'row')} recorded as already in Braze, 0 requests{invalid}")


@app.command(name="forget", cls=ProjectCommand)
def state_forget(
    name: SyncName,
    key: Annotated[
        str, typer.Argument(help="A key, as shown by `retl rejects`, or a user identifier.", show_default=False)
    ],
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Erase a person from the state of a sync: acknowledged rows, rejects and rows in doubt."""
    from reverse_etl.state.edit import forget
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(f'"{key}" will be erased from the state of {name}; if the model returns it, the next run sends it again', yes)
    gone = forget(project, chosen, key)
    rows = f"{count(gone.acknowledged, 'acknowledged row')}, {gone.rejected:,} rejected, {gone.in_doubt:,} in doubt"
    print(f"{name}: {rows} erased")
    for place in gone.copies:
        say(f"an older state is kept in {place}: delete it if it must be erased too")
    if project.state_url(chosen):
        say("if the bucket is versioned, it still has the older versions: delete them there, or let them expire")


@app.command(name="reset", cls=ProjectCommand)
def state_reset(
    name: SyncName,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Discard what Braze has acknowledged: the next run sends every row again. The old state is kept as a backup."""
    from reverse_etl.state.edit import reset

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    ask(cost_of_sending_all([chosen]), yes)
    aside = reset(project, chosen)
    say(f"{name}: state reset; the old state is in {aside}" if aside else f"{name}: nothing to reset")
