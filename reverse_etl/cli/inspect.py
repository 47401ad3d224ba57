"""Commands that show what happened to rows, and resolve those that are not in Braze."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import (
    ProjectCommand,
    ask,
    chosen,
    load,
    print_data,
    print_json,
    print_lines,
    print_table,
    say,
)
from reverse_etl.cli.options import (
    Exclude,
    KeysFrom,
    Output,
    OutputFormat,
    ProjectFolder,
    Select,
    ShowValues,
    SyncName,
    SyncNames,
    TableFormat,
    TableOutput,
    TargetName,
    Variables,
    Wide,
    Yes,
    keys_in,
)
from reverse_etl.errors import ProjectError, RetlError
from reverse_etl.report import terminal

app = typer.Typer()
_OF_REJECTS = ("sync", "key", "identifier", "kind", "status", "resolution", "column", "code", "reason", "hint", "run")


@app.command(cls=ProjectCommand)
def debug(
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Check the project, the warehouse, the models, the API key and its permissions, and the states."""
    from reverse_etl.runs.debug import checks

    project = load(project_dir, target, variables)
    failed = 0
    for check in checks(project):
        failed += not check.is_ok
        label = "warn" if check.is_warning else "ok" if check.is_ok else "FAIL"
        print_lines([f"{label:5} {check.what}"])
    raise typer.Exit(1 if failed else 0)


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(help="Code of an error, as in [P006]. Default: list all.", show_default=False)
    ] = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Explain an error by its code: what it means, and what to do."""
    from reverse_etl.codes import CODES, page
    from reverse_etl.errors import nearest

    asked = None if code is None else code.strip("[]").upper()
    if asked is not None and asked not in CODES:
        raise ProjectError(
            f'unknown code "{code}"', hint=nearest(asked, CODES) or "`retl explain` lists all codes", code="P074"
        )
    if output is Output.JSON:
        chosen = CODES if asked is None else {asked: CODES[asked]}
        shown = [
            {"code": one, "title": of.title, "meaning": of.meaning, "remedy": of.remedy} for one, of in chosen.items()
        ]
        print_json(shown, raw=True)
    elif asked is None:
        print_table([("code", "error"), *((one, of.title) for one, of in CODES.items())], raw=True)
    else:
        for line in page(asked).splitlines():
            print(terminal.fitted(line, sys.stdout))


@app.command(cls=ProjectCommand)
def status(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    wide: Wide = False,
    output: TableFormat = TableOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show the status of each sync: last run, rows in Braze, to send, rejects and in doubt."""
    from dataclasses import asdict, fields

    project = load(project_dir, target, variables)
    from reverse_etl.state.look import UNREACHABLE, WRONG, SyncStatus, statuses
    from reverse_etl.state.orphans import in_words, orphans

    found = list(statuses(project, chosen(project, names, select, exclude)))
    is_whole = not (names or select or exclude)
    is_known = all(one.last_run != UNREACHABLE for one in found)
    if output is not TableOutput.TEXT:
        print_data(output, [asdict(one) for one in found], [field.name for field in fields(SyncStatus)])
    else:
        heading = ("sync", "last run", "finished", "in Braze", "to send", "rejects", "in doubt")
        print_table([heading, *(one.cells() for one in found)], wide=wide, spare=("finished",))
        for one in found:
            for note in one.notes():
                say(f"{one.sync}: {note}")
        for orphan in orphans(project) if is_whole and is_known else []:
            say(in_words(project, orphan))
    raise typer.Exit(1 if any(one.last_run in WRONG for one in found) else 0)


@app.command(cls=ProjectCommand)
def history(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of runs to show for each sync.")] = 10,
    wide: Wide = False,
    output: TableFormat = TableOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """List past runs of each sync, newest first: status, rows, requests. Does not block or wait for a running sync."""
    from dataclasses import asdict, fields

    project = load(project_dir, target, variables)
    from reverse_etl.state.history import HEADING, SPARE, PastRun, past_runs

    runs = past_runs(project, chosen(project, names, select, exclude), limit)
    if output is not TableOutput.TEXT:
        print_data(output, [asdict(run) for run in runs], [field.name for field in fields(PastRun)])
    elif runs:
        print_table([HEADING, *(run.cells() for run in runs)], wide=wide, spare=SPARE)
    else:
        say("no sync has run yet")


@app.command(cls=ProjectCommand)
def rejects(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    show_values: ShowValues = False,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            min=1,
            help="Maximum number of lines to show as text, one per reason; JSON and CSV have every row.",
        ),
    ] = 20,
    wide: Wide = False,
    output: TableFormat = TableOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """List the rows that are not, or may not be, in Braze, by reason: invalid, rejected by Braze or in doubt."""
    from reverse_etl.report.stderr import say_error
    from reverse_etl.report.text import rejects_table
    from reverse_etl.state.look import rows_not_in_braze
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    syncs, rows, code = chosen(project, names, select, exclude), [], 0
    for sync in syncs:
        try:
            rows += [{"sync": sync.name, **row} for row in rows_not_in_braze(project, sync, show_values)]
        except RetlError as error:
            code = error.exit_code
            for problem in error.problems:
                say_error(problem)
    if output is not TableOutput.TEXT:
        print_data(output, rows, list(rows[0]) if rows else _OF_REJECTS)
    elif rows:
        table = rejects_table(rows, len(syncs) > 1)
        print_table(table[: limit + 1], wide=wide, spare=("run", "kind", "status", "code"))
        listed = " ".join(shlex.quote(sync.name) for sync in syncs)
        if (more := len(table) - 1 - limit) > 0:
            say(f"... and {count(more, 'more line')}; --limit {len(table) - 1} shows all")
        if len(rows) > len(table) - 1:
            say(f"one line per reason; every row: `retl rejects {listed} --output csv`")
    elif not code:
        say(f"{', '.join(sync.name for sync in syncs)}: no invalid, rejected or in-doubt rows")
    raise typer.Exit(code)


@app.command(cls=ProjectCommand)
def resolve(
    name: SyncName,
    resend: Annotated[
        bool, typer.Option("--resend", help="The rows did not reach Braze: the next run sends them again.")
    ] = False,
    mark_accepted: Annotated[
        bool,
        typer.Option(
            "--mark-accepted",
            help="The rows did reach Braze: the next run records them as accepted, without sending them.",
        ),
    ] = False,
    give_up: Annotated[
        bool,
        typer.Option(
            "--give-up",
            help="Stop waiting for the rows: they are listed as given up, and not sent until they change. "
            "Needs --key or --keys-from.",
        ),
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="Only the row with this key, as shown by `retl rejects`. Repeatable. Default: all that are undecided.",
        ),
    ] = None,
    keys_from: KeysFrom = None,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Decide about rows in doubt: sent, no clear response received, and not safe to send twice. Or give up rows."""
    from reverse_etl.state.edit import Resolution, may_arrive_twice
    from reverse_etl.state.edit import resolve as resolve_rows
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    said: dict[Resolution, tuple[bool, str]] = {
        "resend": (resend, "{} will be sent again by the next run, if valid"),
        "mark_accepted": (mark_accepted, "{} in doubt will be recorded as accepted by the next run"),
        "give_up": (give_up, "{} given up, and not in Braze: not sent until changed"),
    }
    chosen = [name for name, (is_chosen, _) in said.items() if is_chosen]
    if len(chosen) != 1 or (give_up and not key and keys_from is None):
        one = "pass exactly one of --resend, --mark-accepted and --give-up"
        what = "--give-up needs --key or --keys-from" if len(chosen) == 1 else one
        raise ProjectError(what, hint=f"list the rows: `retl rejects {name}`", code="P076")
    sync = project.sync(name)
    keys = [*(key or []), *(keys_in(keys_from) if keys_from is not None else [])]
    if resend and not yes and (doubled := may_arrive_twice(project, sync, keys)):
        again = f"{count(doubled, 'row')} of {name} will be sent again, and may be in Braze"
        hint = "check in Braze first: if none of them arrived, pass --yes; if all did, --mark-accepted instead"
        ask(f"{again}: those that did arrive count twice", yes, hint)
    rows = resolve_rows(project, sync, chosen[0], keys)
    print(f"{name}: {said[chosen[0]][1].format(count(rows, 'row'))}")
