"""The command that compares what was sent with what Braze has: verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.braze.modes import USER
from reverse_etl.cli.context import load, print_json, print_lines, print_table, say
from reverse_etl.cli.options import Output, OutputFormat, ProjectFolder, ShowValues, SyncName, TargetName, Variables
from reverse_etl.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reverse_etl.runs.verify import Verified

app = typer.Typer()


@app.command()
def verify(
    name: SyncName,
    sample: Annotated[
        int, typer.Option("--sample", min=1, max=1_000_000, help="Maximum number of rows to compare, chosen at random.")
    ] = 500,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Compare the same rows as with this seed.", show_default="random"),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Let the next run send again what differs. The state is locked meanwhile.")
    ] = False,
    show_values: ShowValues = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Read acknowledged rows back from Braze, and compare them with what was sent: exits with 1 if some differ."""
    import secrets

    from reverse_etl.delivery.session import open_session
    from reverse_etl.report.as_json import verify_json
    from reverse_etl.runs.verify import HowToVerify
    from reverse_etl.runs.verify import verify as compared

    project = load(project_dir, target, variables)
    how = HowToVerify(sample, secrets.randbelow(10**6) if seed is None else seed, repair, show_values, say=say)
    with open_session(project) as session:
        found = compared(project, project.sync(name), session, how)
    if output is Output.JSON:
        print_json(verify_json(found), show_values)
    else:
        print_lines(_lines(found))
        if found.differences:
            cells = [(one.column or found.about, one.what, f"{one.rows:,}") for one in found.differences]
            print_table([("column", "what", "rows"), *cells])
            print_lines(found.first, show_values)
    raise typer.Exit(1 if found.differing else 0)


def _lines(found: "Verified") -> "Iterator[str]":
    rows = count(found.rows, "row")
    of = f"{found.sampled:,} of {rows}" if found.sampled < found.rows else f"all of {rows}"
    yield f"{found.sync}: compared {of} with Braze (--seed {found.seed}): {found.as_sent:,} are there as sent"
    below, above = found.share
    if found.sampled < found.rows:
        shares = f"between {_percent(below)} and {_percent(above)}" if found.differing else f"at most {_percent(above)}"
        chance = _percent(found.finds_one_percent)
        yield f"with 95 %, {shares} of all rows differ; this sample finds a fault of 1 % of the rows with {chance}"
    if found.not_compared:
        yield f"not compared, as Braze does not tell: {', '.join(found.not_compared)}"
    if found.not_rendered:
        yield f"not compared, as they break a rule by now: {found.not_rendered:,} more"
    if found.repaired:
        yield f"the next `retl sync {found.sync}` sends again what differs in {found.repaired:,} of them"
    elif found.differing > found.missing or (found.missing and found.about != USER):
        yield "to let the next run send again what differs, pass --repair"
    if found.missing and found.about == USER:
        users = count(found.missing, "user is", "users are")
        yield f"{users} not in Braze, and not repaired: that would create them again"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
