"""What commands share: loading the project, selecting syncs, printing."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from reverse_etl.cli.here import project_here
from reverse_etl.cli.options import TableOutput
from reverse_etl.errors import ProjectError
from reverse_etl.report import stderr, terminal
from reverse_etl.report.stderr import say as say

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Listener


_VARS_HINT = "pass a YAML mapping: `--vars '{country: KR}'`"


class ProjectCommand(TyperCommand):
    """A command on a project; its arguments are recorded in run_results.json."""

    def invoke(self, ctx: Any) -> Any:
        note_arguments({"vars" if name == "variables" else name: value for name, value in ctx.params.items()})
        return super().invoke(ctx)


def load(folder: Path, target: str | None, variables: str | None, needs_target: bool = True) -> "LoadedProject":
    from reverse_etl.project.project import load_project
    from reverse_etl.project.reader import misread
    from reverse_etl.project.yaml_places import parse_yaml

    typed = {
        "--project-dir": None if folder == project_here() else str(folder),
        "--target": target,
        "--vars": variables,
    }
    stderr.invocation.options = "".join(f" {name} {shlex.quote(value)}" for name, value in typed.items() if value)
    try:
        values, positions, problems = parse_yaml(variables or "{}", "--vars")
    except ProjectError as error:
        problems = [replace(one, hint=one.hint or _VARS_HINT) for one in error.problems]
        raise ProjectError(problems) from error
    if problems:
        raise ProjectError(problems)
    if not isinstance(values, dict):
        raise ProjectError("--vars is not a mapping", hint=_VARS_HINT, code="P073")
    project = load_project(folder, target, values, needs_target=needs_target)
    stderr.invocation.target = project.target_name
    for warning in (*misread(positions, lambda _: True), *project.spec.warnings):
        stderr.say_warning(warning)
    for note in project.spec.notes:
        stderr.say_note(note)
    return project


def say_of_models(project: "LoadedProject", models: Iterable[str]) -> None:
    """Report what is not done of what the models say that are about to be compiled."""
    if note := project.note_on_configs(models):
        stderr.say_note(note)


def note_arguments(arguments: dict[str, Any]) -> None:
    """Keep the arguments of the command, for run_results.json."""
    stderr.invocation.arguments = {name: str(v) if isinstance(v, Path) else v for name, v in arguments.items()}


def print_lines(lines: Iterable[str], raw: bool = False) -> None:
    """Print lines, on a terminal in colours and as wide as it is; what looks like personal data is masked unless it was
    asked for, or `raw`.

    Lines that are `raw` are those of files and models: they stay as they are.
    """
    for line in lines:
        stderr.print_whole(line if raw else terminal.fitted(stderr.shown(line), sys.stdout), sys.stdout)


def print_json(value: object, raw: bool = False) -> None:
    from reverse_etl.system.streams import printable_json
    from reverse_etl.words import as_json

    print(printable_json(as_json(value if raw else stderr.shown(value)), sys.stdout.encoding))


def print_table(
    table: Iterable[Iterable[object]], raw: bool = False, wide: bool = False, spare: Sequence[str] = ()
) -> None:
    """Print a table. Unless it is `wide`, it fits the terminal: without columns of `spare`, the first ones first, and
    with cells of several lines."""
    from reverse_etl.report.tables import table_lines, without_spare

    cells = [list(row) for row in table]
    width = None if wide else terminal.width(sys.stdout)
    shown, left_out = without_spare(cells if raw else stderr.shown(cells), spare, width)
    for line in table_lines(shown, width):
        print(line if raw else terminal.painted(line, sys.stdout))
    if left_out:
        say(f"to fit {width} characters a line, without {', '.join(left_out)}; --wide shows all columns")


def print_objects(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a JSON array of objects, one per line, whose values are JSON text already."""
    import json

    from reverse_etl.system.streams import printable_json

    keys = [json.dumps(column, ensure_ascii=False) for column in columns]
    lines = [", ".join(f"{key}: {cell}" for key, cell in zip(keys, row, strict=True)) for row in rows]
    text = "[\n  " + ",\n  ".join(f"{{{line}}}" for line in lines) + "\n]" if lines else "[]"
    print(printable_json(text, sys.stdout.encoding), flush=True)


def print_data(
    output: TableOutput, rows: Sequence[Mapping[str, object]], columns: Sequence[str], raw: bool = False
) -> None:
    """Print rows for programs, as JSON or as CSV with these columns."""
    if output is TableOutput.CSV:
        print_csv(rows, columns, raw)
    else:
        print_json(list(rows), raw)


def print_csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str], raw: bool = False) -> None:
    """Print rows as CSV with a heading. What JSON has as a list or an object is JSON text; NULL is empty."""
    import csv
    import json
    from io import StringIO

    from reverse_etl.system.streams import printable

    def cell(value: object) -> object:
        return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else value

    text = StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    for row in rows if raw else stderr.shown(list(rows)):
        lines.writerow([cell(row[column]) for column in columns])
    print(printable(text.getvalue(), sys.stdout.encoding), end="", flush=True)


def chosen(
    project: "LoadedProject",
    names: list[str] | None,
    select: list[str] | None = None,
    exclude: list[str] | None = None,
    state: Path | None = None,
    keeps_manifest: bool = True,
) -> "list[Sync]":
    """The selected syncs. Writes the manifest of the project, unless that is left to the caller."""
    from reverse_etl.cli.artifacts import keep_manifest
    from reverse_etl.project.selection import select as select_syncs
    from reverse_etl.report.kept import compared_with

    texts = " ".join([*(names or []), *(select or []), *(exclude or [])])
    compared = compared_with(project, state, texts)  # before the new manifest, or results, replace those
    if keeps_manifest:
        keep_manifest(project)
    every = ["*"] if project.sync_names else []
    found = select_syncs(project.graph, [*(names or []), *(select or [])] or every, exclude or [], compared)
    if not found:
        say("nothing to do: no syncs selected")
    return found


def ask(what: str, yes: bool, hint: str = "to confirm, pass --yes") -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ProjectError(what, hint=hint, code="P075")
    typer.confirm(f"{what}. Continue?", abort=True, err=True)


def screen(interrupts: "Interrupts | None" = None) -> "Listener":
    """The listener that reports the progress of runs on stderr."""
    if interrupts:
        interrupts.last_words = _stopped
    if stderr.invocation.is_json:
        from reverse_etl.report.json_lines import JsonLines

        return JsonLines()
    if not terminal.is_terminal(sys.stderr):
        from reverse_etl.report.progress import Lines

        return Lines()
    from rich.console import Console

    from reverse_etl.report.screen import Screen
    from reverse_etl.runs.interrupts import Interrupts

    return Screen(Console(stderr=True, force_terminal=True), interrupts or Interrupts())


def _stopped(syncs: Sequence[str]) -> None:
    """Say what a second signal leaves of the syncs that were being sent."""
    left = f": rows of requests in flight may be in Braze: `retl rejects {' '.join(syncs)}`" if syncs else ""
    stderr.say_at_once(f"stopped at once{left}", "interrupted", "warning")


def cost_of_sending_all(syncs: "list[Sync]") -> str:
    doubled = [sync.name for sync in syncs if not sync.mode.is_idempotent]
    text = f"every row of {', '.join(sync.name for sync in syncs)} will be sent again, changed or not"
    if doubled:
        text += f"; Braze will count each event or purchase of {', '.join(doubled)} again"
    final = [f"{sync.name} {sync.mode.ends.does}s again every {sync.mode.ends.of}" for sync in syncs if sync.mode.ends]
    return f"{text}; {' and '.join(final)} that its model returns, whoever came back" if final else text


def cost_of_reset(sync: "Sync", known: int | None) -> tuple[str, str]:
    """What is lost with the state of a sync, which has `known` rows if it can be read, and how to confirm that."""
    from reverse_etl.project.again import Resend, resend_of
    from reverse_etl.words import count

    resend, cost, confirm = resend_of(sync), cost_of_sending_all([sync]), "to confirm, pass --yes"
    baseline = f"then, before the next run, `retl state baseline {sync.name}`"
    if ends := sync.mode.ends:
        them = f"every {ends.of}" if known is None else count(known, ends.of)
        cost = f"the next run of {sync.name} {ends.does}s {them} again that its model returns, also who came back"
        return cost, f"{confirm}; {baseline}, so that no {ends.of} is {ends.done} again"
    if resend is Resend.COUNTS_TWICE:
        return cost, f"{confirm}; {baseline}, so that nothing counts twice"
    if resend is Resend.MAY_OPT_IN:
        asks = f"then, if it opts users in, `retl sync {sync.name} --read-first` asks Braze who has opted out"
        return cost, f"{confirm}; {asks}"
    return cost, confirm
