"""The command line: flags -> run -> print -> exit code. stdout is the result, stderr the talk.

    making    init seed schema ls compile show
    running   sync retry apply plan
    testing   test
    scheduling  run-due schedule
    looking   debug status rejects resolve
    sandbox   sandbox
    state     state show | seed | forget | reset

What a command needs is imported inside it, so that `retl --help` answers at once.
"""

import sys
from typing import Annotated, NoReturn

import typer

from reverse_etl.cli import looking, making, running, sandbox, scheduling, state, testing
from reverse_etl.cli.shared import say
from reverse_etl.errors import RetlError

app = typer.Typer(
    name="retl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half the time of `retl --help` went into importing what draws boxes
)
for commands in (making, running, scheduling, testing, looking, sandbox):
    app.add_typer(commands.app)
app.add_typer(state.app, name="state", help="Look at what a sync remembers, or make it forget.", no_args_is_help=True)


def _print_version(asked: bool) -> None:
    from importlib.metadata import version

    if asked:
        print(f"retl {version('reverse-etl')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep Braze true to SQL models: the right rows, the right columns, once."""


def main() -> NoReturn:
    """The command `retl`."""
    try:
        app(prog_name="retl")
    except RetlError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)  # who read our output left, as in `retl ls | head -1`
    sys.exit(0)
