"""The command revert: plans to take back what a run has changed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.completion import run_ids
from reverse_etl.cli.context import ProjectCommand, load, print_json, print_lines, say, screen
from reverse_etl.cli.options import (
    Encrypt,
    MemoryLimit,
    Out,
    Output,
    OutputFormat,
    ProjectFolder,
    ShowValues,
    TargetName,
    Variables,
    Wait,
)
from reverse_etl.cli.plan import saving
from reverse_etl.errors import ProjectError
from reverse_etl.report import stderr, terminal

app = typer.Typer()


@app.command(cls=ProjectCommand)
def revert(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Id of a run, or A..B for several, as in `retl history`.", autocompletion=run_ids
        ),
    ],
    pin: Annotated[
        bool,
        typer.Option("--pin", help="Keep the values until the model returns others than those that are reverted."),
    ] = False,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Let the model decide again about what --pin kept. Sends nothing.")
    ] = False,
    show_values: ShowValues = False,
    out: Out = None,
    encrypt: Encrypt = False,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Plan to take back what a run has changed; --out writes the plan, for `retl apply`. Sends nothing."""
    from reverse_etl.report import as_json, text
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.reverting import chosen_runs, preview_revert
    from reverse_etl.runs.reverting import unpin as end_pins
    from reverse_etl.runs.run import jobs_of
    from reverse_etl.words import count

    if unpin and (pin or out):
        raise ProjectError("--unpin takes neither --pin nor --out", hint="run it alone", code="P070")
    project = load(project_dir, target, variables)
    chosen = chosen_runs(project, run)
    options = Options(show_values=show_values, memory_limit=memory_limit, wait_s=wait)
    (job,) = jobs_of(project, [chosen.sync], options, screen())
    if unpin:
        cells = count(end_pins(job, chosen), "value")
        print_lines(
            [f"{chosen.sync.name}: {cells} of {run} no longer pinned: the next run sends what the model returns"]
        )
        return
    with saving(project, out, encrypt) as save:
        preview, reverted = preview_revert(job, chosen, pin, save)
        if output is Output.TEXT:
            width = terminal.width(sys.stdout)
            print_lines(text.revert_lines(run, preview, reverted, pin, show_values, width))
    if output is Output.JSON:
        print_json(as_json.revert_json(run, preview, reverted))
    for problem in preview.blocked_by:
        stderr.say_error(problem)
    if not out and preview.plan.to_send:
        say("to send it, write it to a file with --out FILE, then run `retl apply FILE`")
    raise typer.Exit(1 if preview.blocked_by else 0)
