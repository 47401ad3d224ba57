"""The command that writes and compares braze.lock.yml: lock."""

from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, load, print_lines, say
from reverse_etl.cli.options import ProjectFolder, TargetName, Variables
from reverse_etl.errors import ProjectError

app = typer.Typer()


@app.command(cls=ProjectCommand)
def lock(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; list what differs, and exit with 1 if anything does.")
    ] = False,
    from_braze: Annotated[
        bool,
        typer.Option(
            "--from-braze",
            help="Also read the attributes and events of the workspace. Needs an API key with custom_attributes.get.",
        ),
    ] = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Write braze.lock.yml: names and types of the attributes, events and properties that the models send."""
    from reverse_etl.plan.names import entries
    from reverse_etl.project.lock_file import LOCK_FILE
    from reverse_etl.runs.lock import lock_of
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    if check and project.lock() is None:
        raise ProjectError(f"{LOCK_FILE} not found in {project.folder.absolute()}", hint="run `retl lock`", code="P098")
    found = lock_of(project, from_braze)
    print_lines([*found.differences, *found.clashes])
    if from_braze and found.lock.braze and found.lock.braze.events is None:
        say("without the events of the workspace: the API key may not list them (permission events.list)")
    names = count(len(entries(found.lock)), "name")
    if not check:
        project.write_lock(found.lock)
        say(f"wrote {LOCK_FILE}: {names}")
    elif found.differences or found.clashes:
        differences = count(len(found.differences) + len(found.clashes), "difference")
        say(f"{LOCK_FILE}: {differences}; `retl lock` writes what the models send now")
        raise typer.Exit(1)
    else:
        say(f"{LOCK_FILE}: {names}, no difference")
