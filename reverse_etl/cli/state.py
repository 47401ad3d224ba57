"""Commands on the state of a sync: state show, baseline, accept-workspace, rename, move, reset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import (
    ProjectCommand,
    ask,
    chosen,
    cost_of_reset,
    load,
    print_json,
    print_table,
    say,
    screen,
)
from reverse_etl.cli.options import (
    AcceptSchemaChange,
    Output,
    OutputFormat,
    ProjectFolder,
    SyncName,
    SyncNames,
    TargetName,
    Variables,
    Wait,
    Yes,
)
from reverse_etl.errors import ProjectError, StateError

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync

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
    from reverse_etl.project.again import Resend, resend_of
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import baseline, jobs_of
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    taken = f"every valid row of {name} will be recorded as already in Braze, and not sent until it changes"
    if resend_of(chosen) is Resend.MAY_OPT_IN:
        taken += "; an opt-out among them that Braze does not have is lost"
    ask(taken, yes)
    options = Options(accept_schema_change=accept_schema_change, wait_s=wait)
    (job,) = jobs_of(project, [chosen], options, screen())
    plan = baseline(job)
    invalid = f"; {count(plan.invalid, 'invalid row')} not recorded, see `retl rejects {name}`" if plan.invalid else ""
    print(f"{name}: {count(plan.baselined, 'row')} recorded as already in Braze, 0 requests{invalid}")


@app.command(name="accept-workspace", cls=ProjectCommand)
def state_accept_workspace(
    names: SyncNames = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Accept it for every sync in syncs.yml.")] = False,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Accept another API key or endpoint of the same workspace. Those that were accepted before stay accepted."""
    from reverse_etl.delivery.session import open_session
    from reverse_etl.state.edit import accept_workspace

    project = load(project_dir, target, variables)
    if bool(names) == all_syncs:
        raise ProjectError(
            "name one or more syncs, or pass --all", hint=f"one of: {', '.join(project.sync_names)}", code="P070"
        )
    syncs = chosen(project, names)
    with open_session(project) as session:
        destination = session.destination()
    if destination.place is None:
        raise StateError(
            "cannot reach the endpoint, to see which sandbox it is", project.spec.in_target("destination"), code="S017"
        )
    by = " with the API key in the environment" if destination.api_key else ""
    listed = ", ".join(sync.name for sync in syncs)
    ask(f"what {listed} sent before counts as sent to {destination.place}{by}, and is not sent there again", yes)
    for sync in syncs:
        is_new = accept_workspace(project, sync, destination)
        say(f"{sync.name}: {destination.place} accepted{by}" if is_new else f"{sync.name}: nothing to accept")


@app.command(name="rename", cls=ProjectCommand)
def state_rename(
    old: Annotated[str, typer.Argument(help="The former name of a sync.", show_default=False)],
    name: SyncName,
    wait: Wait = 0,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Move the state of a sync that was renamed to its present name, as `renamed_from` does. Sends nothing."""
    from reverse_etl.state.moving import rename
    from reverse_etl.system.clock import Clock, when_free

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    if old in project.sync_names:
        raise ProjectError(f'"{old}" is the name of a sync', hint="rename it in syncs.yml first", code="P078")
    when_free(lambda: rename(project, old, chosen, Clock()), wait, Clock(), say)
    say(f"{name}: the state of {old} is its own now")


@app.command(name="move", cls=ProjectCommand)
def state_move(
    name: SyncName,
    wait: Wait = 0,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Move acknowledged rows to where the target has them: into Spark (`diff: engine`) or out of it. Sends nothing."""
    from reverse_etl.state.rows_moving import move_rows
    from reverse_etl.system.clock import Clock, when_free
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    chosen = project.sync(name)
    moved = when_free(lambda: move_rows(project, chosen, Clock()), wait, Clock(), say)
    to = f"to the schema {moved.schema} of Spark" if moved and moved.schema else "to the state"
    said = f"{count(moved.rows, 'acknowledged row')} moved {to}" if moved else "nothing to move"
    say(f"{name}: {said}")


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
    from reverse_etl.state.orphans import name_of, orphans
    from reverse_etl.state.places import place_of

    project = load(project_dir, target, variables)
    unclaimed = {name_of(project, place): place for place in orphans(project)}
    if name in unclaimed:
        ask(f"what {name} sent, which no {'target' if '/' in name else 'sync'} claims, will be forgotten", yes)
        aside = reset(unclaimed[name])
    else:
        chosen = project.sync(name)
        ask(*_asked(project, chosen, yes))
        aside = reset(place_of(project, chosen))
    say(f"{name}: state reset; the old state is in {aside}" if aside else f"{name}: nothing to reset")
    if aside and name not in unclaimed and (chosen.mode.ends or not chosen.mode.is_idempotent):
        say(f"{name}: the next run sends every row again; run `retl state baseline {name}` first if they are in Braze")


def _asked(project: "LoadedProject", sync: "Sync", yes: bool) -> tuple[str, bool, str]:
    """What `ask` is given about a reset. Only where rows are final, their number is worth opening the state."""
    from reverse_etl.errors import RetlError
    from reverse_etl.state.look import describe_state, is_there

    known = None
    if sync.mode.ends and not yes:
        try:
            known = int(describe_state(project, sync)["rows_in_braze"]) if is_there(project, sync) else 0
        except RetlError:  # a damaged one can be reset, too
            known = None
    what, hint = cost_of_reset(sync, known)
    return what, yes, hint
