"""Commands about alerts: alert test."""

from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, load, say
from reverse_etl.cli.options import ProjectFolder, TargetName, Variables
from reverse_etl.errors import ProjectError, nearest
from reverse_etl.report.stderr import say_error

app = typer.Typer()


@app.callback()
def alert() -> None:
    """Alerts of syncs.yml."""


@app.command(name="test", cls=ProjectCommand)
def alert_test(
    names: Annotated[
        list[str] | None, typer.Argument(help="Alerts. Default: all of the target.", show_default=False)
    ] = None,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Send a test message by each alert of the target. Changes nothing of what was told, and sends no heartbeat."""
    from reverse_etl.alerts.tell import test
    from reverse_etl.project.spec_alerts import label

    project = load(project_dir, target, variables)
    there = [label(one) for one in project.spec.alerts]
    for name in names or []:
        if name not in there:
            what = f'target "{project.target_name}" has no alert "{name}"'
            raise ProjectError(what, hint=nearest(name, there), code="P111")
    if not there:
        what = f'target "{project.target_name}" has no alerts'
        hint = "add `alerts:` to syncs.yml, as docs/alerts.md shows; or choose another target with --target"
        raise ProjectError(what, hint=hint, code="P111")
    failures = test(project, names or [], project.started_at)
    for name, problem in failures.items():
        if problem:
            say_error(problem)
        else:
            say(f"{name}: delivered")
    raise typer.Exit(1 if any(failures.values()) else 0)
