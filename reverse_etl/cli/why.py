"""The command why: which run and request brought a value to Braze."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reverse_etl.cli.completion import run_ids
from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_lines, print_table, say
from reverse_etl.cli.options import (
    Exclude,
    Output,
    OutputFormat,
    ProjectFolder,
    Select,
    ShowValues,
    TargetName,
    Variables,
)
from reverse_etl.errors import ProjectError
from reverse_etl.words import count

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.runs.why import Cell, Write

app = typer.Typer()
_MASK = "***"


@app.command(cls=ProjectCommand, context_settings={"allow_extra_args": True})
def why(
    context: typer.Context,
    key: Annotated[
        str,
        typer.Argument(help="An external id, an alias name, an e-mail, a phone number, or the key of a row."),
    ],
    column: Annotated[
        str | None, typer.Argument(help="A column of the model. Default: all.", show_default=False)
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="All writes, not only the last one of each column.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="Only what this run wrote, as `retl history` shows it.", autocompletion=run_ids
        ),
    ] = None,
    read: Annotated[bool, typer.Option("--read", help="Ask Braze for the user, too, and print both.")] = False,
    select: Select = None,
    exclude: Exclude = None,
    show_values: ShowValues = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show which run and request brought a value to Braze, from which line of a model, and what it was before."""
    from reverse_etl.runs.why import read_back
    from reverse_etl.runs.why import why as ask_why

    project = load(project_dir, target, variables)
    _refuse_sync_first(project, [key, *([column] if column else []), *context.args])
    found = ask_why(project, key, column, chosen(project, None, select, exclude), run, show_values)
    in_braze = read_back(project, found, column) if read else None
    if output is Output.JSON:
        users = {} if in_braze is None else {"braze": _shown_users(in_braze, show_values)}
        cells = [_as_json(cell, history or run is not None, show_values) for cell in found.cells]
        print_json({"cells": cells, "notes": list(found.notes), **users}, raw=show_values)
        return
    if column is None:
        rows = [row for cell in found.cells for row in _rows(cell, history or run is not None, show_values)]
        print_table([("sync", "key", "column", "value", "before", "at", "run", "request"), *rows], raw=show_values)
    for cell in found.cells if column is not None else ():
        print_lines(_details(cell, history, show_values), raw=show_values)
    if not show_values and any(_is_masked(cell) for cell in found.cells):
        print("(values masked; show them with --show-values)")
    for note in found.notes:
        say(note)
    if in_braze is not None:
        from json import dumps

        users_shown, summaries = _shown_users(in_braze, show_values), list(found.acts)
        for user in users_shown:
            summed = [line for name in summaries for line in _summed(name, user.pop(name))]
            lines = [f"Braze: {dumps(user, ensure_ascii=False)}"] if user else []
            print_lines([*lines, *summed], raw=show_values)
        if not users_shown:
            print_lines(["Braze: no such user"])
        elif summaries:
            say("Braze counts events and purchases of 90 days by name: counts do not identify a single one")


def _refuse_sync_first(project: "LoadedProject", words: Sequence[str]) -> None:
    """Raises ProjectError if the arguments are not KEY and COLUMN, as where they begin with a sync's name."""
    if len(words) <= 2:
        return
    if words[0] in project.sync_names:
        hint = f"run `retl why {shlex.join(words[1:3])} --select {words[0]}`"
        raise ProjectError(f'"{words[0]}" is a sync: `retl why` accepts a key and a column', hint=hint, code="P076")
    what = f"`retl why` accepts a key and a column, not {count(len(words), 'argument')}"
    raise ProjectError(what, hint="run `retl why KEY COLUMN`; quote a key that has blanks in it", code="P076")


def _value(text: str | None, show_values: bool) -> str:
    if text is None:
        return "(none)"
    return text if show_values else _MASK


def _is_masked(cell: "Cell") -> bool:
    return cell.value is not None or any(write.new or write.old for write in cell.writes)


def _rows(cell: "Cell", has_all: bool, show_values: bool) -> Iterator[tuple[str, ...]]:
    from reverse_etl.words import moment

    name = cell.column or "(row)"
    if not cell.writes:
        yield cell.sync, cell.key, name, _value(cell.value, show_values), "", "", "", ""
    for write in cell.writes if has_all else cell.writes[:1]:
        at = moment(write.answered_at or write.sent_at or write.finished_at)
        values = (_value(write.new, show_values), _value(write.old, show_values)) if cell.column else ("", "")
        request = "" if write.request is None else str(write.request)
        yield cell.sync, cell.key, name, *values, at, write.run_id, request


def _details(cell: "Cell", has_all: bool, show_values: bool) -> Iterator[str]:
    value = _value(cell.value, show_values) if cell.in_state else "(the row is not in the state)"
    yield f"{cell.sync} ({cell.location}), key {cell.key}: {cell.column} = {value}"
    if cell.unsure:
        yield "  unsure    another value was sent since, without a clear response: Braze may have that"
    if not cell.writes:
        yield "  written   not in the ledger: by an older version, or longer ago than ledger.keep"
    for write in cell.writes if has_all else cell.writes[:1]:
        yield from _write(write, show_values)
    source = cell.source
    if source is None:
        return
    line = f":{source.line}, by names (best effort)" if source.line else ": which line it is cannot be told"
    yield f"  model     {source.file}{line}"
    if source.blame:
        yield f"            last changed by {source.blame}"
    if source.now_unknown:
        yield f"  now       unknown: {source.now_unknown}"
    else:
        same = "as in the state" if source.now == cell.value else "not as in the state"
        yield f"  now       the model returns {_value(source.now, show_values)}, {same}"


def _write(write: "Write", show_values: bool) -> Iterator[str]:
    from reverse_etl.words import moment

    change = f"{_value(write.old, show_values)} -> {_value(write.new, show_values)}"
    whole = ", with the whole row" if write.kind in ("added", "resent") else ""
    if write.request is None:
        yield f"  written   {moment(write.finished_at)}, by no known request{whole}: {change}"
    else:
        sent = moment(write.answered_at or write.sent_at or write.finished_at)
        status = f", {write.status}" if write.status else ""
        yield f"  written   {sent}, request {write.request} ({write.path}{status}){whole}: {change}"
    by = f", started by {write.started_by}" if write.started_by else ""
    says = f": {write.run_message}" if write.run_message else ""  # such as which run it reverts
    yield f"  run       {write.run_id}, {write.run_status}{by}{says}"
    if write.plan_digest:
        yield f"  plan      sha256:{write.plan_digest}"
    if write.git_commit:
        changed = {True: ", with changes that were not committed", False: "", None: ""}[write.git_dirty]
        yield f"  commit    {write.git_commit[:10]}{changed}"


def _as_json(cell: "Cell", has_all: bool, show_values: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from reverse_etl.runs.why import as_json

    def shown(text: str | None) -> Any:
        return as_json(text) if show_values or text is None else _MASK

    found = asdict(cell)
    writes: Sequence[dict[str, Any]] = found["writes"] if has_all else found["writes"][:1]
    for write in writes:
        write |= {"old": shown(write["old"]), "new": shown(write["new"])}
        times = {name: at.isoformat() for name, at in write.items() if name.endswith("_at") and at is not None}
        write |= times
    if found["source"]:
        found["source"]["now"] = shown(found["source"]["now"])
    return {**found, "value": shown(cell.value), "writes": list(writes)}


def _shown_users(users: Sequence[dict[str, Any]], show_values: bool) -> list[dict[str, Any]]:
    """Names of events and products are shown as keys are."""
    if show_values:
        return list(users)
    return [{name: _shown_value(name, value) for name, value in user.items()} for user in users]


def _shown_value(name: str, value: Any) -> Any:
    from reverse_etl.masking import Keys
    from reverse_etl.runs.why import SUMMARIES

    if name in {summary for summary, _ in SUMMARIES.values()} and isinstance(value, list):
        return [{**one, "name": Keys().part("name", one["name"])} for one in value]
    return None if value is None else _MASK


def _summed(summary: str, known: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    what = "purchases" if summary == "purchases" else "events"
    if not known:
        yield f"Braze: no {what} of this user"
    for one in known:
        times = "not known" if one["count"] is None else f"{one['count']:,}"
        when = "" if one["count"] == 0 else f", first {one['first']}, last {one['last']}"
        yield f"Braze: {what} {one['name']}: count {times}{when}"
