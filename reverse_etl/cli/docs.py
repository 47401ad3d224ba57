"""Commands that make a page of the project for people: docs generate."""

from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, load, say
from reverse_etl.cli.options import ProjectFolder, TargetName, Variables
from reverse_etl.errors import ProjectError

app = typer.Typer()


@app.callback()
def docs() -> None:
    """A page of the project."""


@app.command(cls=ProjectCommand)
def generate(
    days: Annotated[
        int, typer.Option("--days", min=1, max=3650, help="How many days of changes to count, from the ledger.")
    ] = 30,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Write target/docs/index.html, a page for browsers: attributes, events, syncs, runs, sources. Sends nothing."""
    from importlib.metadata import version

    from reverse_etl.cli.artifacts import keep_manifest
    from reverse_etl.report.artifacts import FOLDER
    from reverse_etl.report.site.page import assets, page
    from reverse_etl.runs.flaps import HowToLook
    from reverse_etl.runs.site import collect
    from reverse_etl.system.clock import Clock
    from reverse_etl.system.disk import remedy
    from reverse_etl.system.private_files import create_ignored, write_whole

    project = load(project_dir, target, variables)
    keep_manifest(project)
    site = collect(project, HowToLook(days, 1, Clock().utc()), version("reverse-etl"))
    path = project.folder / FOLDER / "docs" / "index.html"
    try:
        create_ignored(project.folder / FOLDER)
        write_whole(path, page(site, assets()))
    except OSError as error:
        hint = remedy(error, "make the project folder writable: retl writes its artifacts there")
        raise ProjectError(f"cannot write {path}: {error.strerror}", hint=hint, code="P079") from error
    say(f"wrote {path}; open it in a browser")
