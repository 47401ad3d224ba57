"""Commands that say what happened to rows: debug, status, history, rejects, resolve."""

from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_table, say
from reverse_etl.cli.options import (
    Output,
    OutputFormat,
    ProjectFolder,
    ShowValues,
    SyncName,
    SyncNames,
    TargetName,
    Variables,
)
from reverse_etl.errors import ProjectError

app = typer.Typer()


@app.command(cls=ProjectCommand)
def debug(
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Check the warehouse, the models, the API key and its permissions, and the states."""
    from reverse_etl.runs.debug import checks

    project = load(project_dir, target, variables)
    failed = 0
    for check in checks(project):
        failed += not check.is_ok
        print(f"{'ok   ' if check.is_ok else 'FAIL '} {check.what}", flush=True)
    raise typer.Exit(1 if failed else 0)


@app.command(cls=ProjectCommand)
def status(
    names: SyncNames = None,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show how each sync stands: its last run, rows in Braze, rows rejected or in doubt."""
    from dataclasses import asdict

    project = load(project_dir, target, variables)
    from reverse_etl.state.look import DAMAGED, UNREACHABLE, sync_status

    found = [sync_status(project, sync) for sync in chosen(project, names)]
    if output is Output.JSON:
        print_json([asdict(one) for one in found])
    else:
        heading = ("sync", "last run", "finished", "in Braze", "rejected", "in doubt")
        print_table([heading, *(one.cells() for one in found)])
        for one in found:
            if one.message:
                say(f"{one.sync}: {one.message}")
    raise typer.Exit(1 if any(one.last_run in (DAMAGED, UNREACHABLE) for one in found) else 0)


@app.command(cls=ProjectCommand)
def history(
    names: SyncNames = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many runs of each sync.")] = 10,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """List past runs of each sync, the newest first: what came of them, rows, requests. Disturbs no run."""
    from dataclasses import asdict

    project = load(project_dir, target, variables)
    from reverse_etl.state.history import HEADING, past_runs

    runs = [run for sync in chosen(project, names) for run in past_runs(project, sync, limit)]
    if output is Output.JSON:
        print_json([asdict(run) for run in runs])
    elif runs:
        print_table([HEADING, *(run.cells() for run in runs)])
    else:
        say("no sync has run yet")


@app.command(cls=ProjectCommand)
def rejects(
    name: SyncName,
    show_values: ShowValues = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """List the rows that are not in Braze: found invalid, rejected by Braze, or in doubt, with the reason."""
    from reverse_etl.state.look import rows_not_in_braze

    project = load(project_dir, target, variables)
    rows = rows_not_in_braze(project, project.sync(name), show_values)
    if output is Output.JSON:
        print_json(rows)
    elif rows:
        names = [name for name in rows[0] if name != "resolution" or any(row[name] for row in rows)]
        in_words = [{**row, "status": row["status"].replace("_", " ")} for row in rows]
        print_table([names, *([row[name] for name in names] for row in in_words)])
    else:
        say(f"{name}: no row is rejected or in doubt")


@app.command(cls=ProjectCommand)
def resolve(
    name: SyncName,
    resend: Annotated[
        bool, typer.Option("--resend", help="They did not arrive: the next run sends them again.")
    ] = False,
    mark_accepted: Annotated[
        bool, typer.Option("--mark-accepted", help="They did arrive: the next run takes them as sent.")
    ] = False,
    key: Annotated[list[str] | None, typer.Option("--key", help="Of this row only, as `retl rejects` has it.")] = None,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Say what becomes of rows in doubt: sent, no answer came, and sending them twice would do harm."""
    from reverse_etl.state.edit import resolve as resolve_doubts
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    if resend == mark_accepted:
        raise ProjectError(
            "say one of --resend and --mark-accepted", hint=f"`retl rejects {name}` lists the rows in doubt"
        )
    rows = resolve_doubts(project, project.sync(name), "resend" if resend else "mark_accepted", key or [])
    what = "go out again" if resend else "be taken as sent"
    print(f"{name}: {count(rows, 'row')} in doubt will {what} with the next run")
