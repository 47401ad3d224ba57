"""The command forget: erases a person, lets one back, checks a receipt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, ask, load, print_lines, print_table, say
from reverse_etl.cli.options import ProjectFolder, TargetName, Variables, Wait, Yes
from reverse_etl.errors import ProjectError
from reverse_etl.words import count

if TYPE_CHECKING:
    from reverse_etl.runs.forgetting import Forgetting, Forgotten

app = typer.Typer()


@app.command(cls=ProjectCommand)
def forget(
    key: Annotated[
        str | None,
        typer.Argument(
            help='An external id, an alias name (or \'["NAME", "LABEL"]\'), a Braze id, an e-mail, a phone number.',
            show_default=False,
        ),
    ] = None,
    delete_in_braze: Annotated[
        bool, typer.Option("--delete-in-braze", help="Delete the user in Braze, too. Cannot be undone.")
    ] = False,
    from_model: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Erase all persons that a model returns.")
    ] = None,
    allow: Annotated[bool, typer.Option("--allow", help="Let somebody who was erased be sent again.")] = False,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="RECEIPT", help="Check that a receipt is still true.")
    ] = None,
    wait: Wait = 0,
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Erase a person from all that the syncs of a target remember; from then on, none of them sends the person."""
    from reverse_etl.runs import forgetting as work

    if [key is not None, from_model is not None, check is not None].count(True) != 1:
        raise ProjectError("pass a key, or --from MODEL, or --check RECEIPT", code="P070")
    if (allow and key is None) or (delete_in_braze and (allow or check)):
        raise ProjectError("--allow takes a key, and --delete-in-braze a key or --from", code="P070")
    project = load(project_dir, target, variables)
    how = work.Forgetting(project, say, wait)
    if check is not None:
        checked = work.check(how, check)
        print_lines(checked.wrong or [checked.claim])
        say(checked.open)
        raise typer.Exit(1 if checked.wrong else 0)
    if allow and key is not None:
        ask(f'"{key}" was erased, and will be sent again', yes)
        print_lines([f"allowed again on target {project.target_name}: {', '.join(work.allow(how, key))}"])
        return
    persons = work.asked_for(how, key) if key is not None else work.listed_by(how, str(from_model))
    who = f'"{key}"' if key is not None else f"whoever {from_model} returns"
    known = ", ".join(_by_kind(persons.erased)) or "nobody"
    in_braze = ", and deleted in Braze, for good" if delete_in_braze else ""
    ask(f"{who} ({known}) will be erased from all states of target {project.target_name}{in_braze}", yes)
    gone = work.forget(how, persons, delete_in_braze)
    _print(how, gone)


def _by_kind(texts: set[str]) -> list[str]:
    """How many identifiers of each kind: no value."""
    from reverse_etl.records.identity import KINDS

    numbers = {kind: sum(text.startswith(f"{kind}:") for text in texts) for kind in KINDS}
    return [kind if number == 1 else f"{number:,} {kind}" for kind, number in numbers.items() if number]


def _print(how: "Forgetting", gone: "Forgotten") -> None:
    project = how.project
    cells = [
        (sync, *(f"{n:,}" for n in (rows.acknowledged, rows.rejected, rows.in_doubt, rows.ledger)))
        for sync, rows in gone.found.items()
    ]
    print_table([("erased from", "acknowledged", "rejected", "in doubt", "lines of the ledger"), *cells])
    for table, number in gone.collected.records.items():
        if number:
            print_lines([f"deleted {count(number, 'collected record')} of {table}"])
    if gone.collected.is_pending:
        say("what `retl collect` received in the last minute is erased when it becomes a Parquet file, in a minute")
    print_lines(f"deleted {file}" for file in gone.files)
    if gone.in_braze is None:
        say("not deleted in Braze: let a users_delete sync do that, or pass --delete-in-braze")
    else:
        named = count(gone.in_braze, "identifier")
        print_lines([f"Braze was asked to delete the person, by {named}; that may take some minutes"])
    for kind in sorted({text.partition(":")[0] for text in gone.persons.shared}):
        say(f"another user has the same {kind}: rows that are identified by it alone stay")
    say(gone.open)
    for place in gone.out_of_reach:
        say(f"not erased, look there yourself: {place}")
    if project.states_url:
        say("if the bucket is versioned, it still has the older versions: delete them there, or let them expire")
    others = [name for name in project.spec.targets if name != project.target_name]
    if others:
        say(f"other targets have states of their own: run this with --target {' and --target '.join(others)}")
    say("out of reach: the warehouse, backups, logs, and plans that were given away")
    print_lines([f"receipt: {gone.receipt}"])
