"""The command flaps: what changes too often."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_table, say
from reverse_etl.cli.options import (
    Exclude,
    Output,
    OutputFormat,
    ProjectFolder,
    Select,
    ShowValues,
    SyncNames,
    TargetName,
    Variables,
    Wide,
)
from reverse_etl.report import stderr

if TYPE_CHECKING:
    from reverse_etl.runs.flaps import Flaps

app = typer.Typer()


@app.command(cls=ProjectCommand)
def flaps(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How many days to look back.")] = 30,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of columns and of rows to show.")] = 10,
    show_values: ShowValues = False,
    wide: Wide = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show which columns and rows change most, at what cost, and which only by time, rounding or the like."""
    from dataclasses import asdict

    from reverse_etl.report.as_json import problem_json
    from reverse_etl.runs.flaps import HowToLook
    from reverse_etl.runs.flaps import flaps as look
    from reverse_etl.system.clock import Clock

    project = load(project_dir, target, variables)
    found = look(project, chosen(project, names, select, exclude), HowToLook(days, limit, Clock().utc(), show_values))
    for problem in found.errors:
        stderr.say_error(problem)
    if output is Output.JSON:
        errors = [problem_json(problem) for problem in found.errors]
        print_json({"days": days, **asdict(found), "errors": errors}, raw=show_values)
    else:
        _print(found, show_values, wide)
    raise typer.Exit(1 if found.errors else 0)


def _print(found: "Flaps", show_values: bool, wide: bool) -> None:
    numbers = ("changes", "rows", "runs", "data points")
    if found.columns:
        cells = [
            (one.sync, one.column, *(f"{n:,}" for n in (one.changes, one.rows, one.runs, one.data_points)), one.what)
            for one in found.columns
        ]
        print_table([("sync", "column", *numbers, "why"), *cells], wide=wide, spare=("rows", "runs"))
        print()
        rows = [
            (one.sync, one.key, *(f"{n:,}" for n in (one.changes, one.runs, one.data_points))) for one in found.rows
        ]
        print_table([("sync", "row", "changes", "runs", "data points"), *rows], raw=show_values, wide=wide)
    for column in found.columns:
        if column.hint:
            say(f"{column.sync}: {column.column}: {column.hint}")
    for note in found.notes:
        say(note)
