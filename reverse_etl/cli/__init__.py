"""The command line: options -> run -> print -> exit code. Results go to stdout, everything else to stderr.

    project    init seed schema ls compile show exposures
    sync       sync retry
    plan       plan apply
    schedule   run-due scheduler
    test       test
    inspect    debug status history rejects resolve
    sandbox    sandbox
    state      state show | baseline | forget | reset

    options    options shared by several commands
    context    loading the project, selecting syncs, printing
    execute    runs syncs, prints their results, ends the command
    artifacts  the files that a command writes to target/

Commands import what they need themselves, so that `retl --help` prints at once.
"""

import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from reverse_etl.cli import inspect, plan, project, sandbox, schedule, state, sync, test
from reverse_etl.cli.options import Output
from reverse_etl.errors import RetlError
from reverse_etl.redaction import Redacted
from reverse_etl.report import stderr

app = typer.Typer(
    name="retl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws boxes took half the time of `retl --help`
)
for commands in (project, sync, plan, schedule, test, inspect, sandbox):
    app.add_typer(commands.app)
app.add_typer(state.app, name="state", help="Inspect or change the state of a sync.", no_args_is_help=True)


LOG_FORMAT = "RETL_LOG_FORMAT"


def _print_version(asked: bool) -> None:
    from importlib.metadata import version

    if asked:
        print(f"retl {version('reverse-etl')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    log_format: Annotated[
        Output, typer.Option("--log-format", envvar=LOG_FORMAT, help="Log format on stderr: text, or JSON Lines.")
    ] = Output.TEXT,
) -> None:
    """Sync SQL models to Braze: send only the rows and columns that changed."""
    stderr.begin(context.invoked_subcommand or "", log_format is Output.JSON)


def main() -> NoReturn:
    """The command `retl`. Nothing that it prints contains a secret, nor what nobody asked for of a person, not even the
    traceback of a bug."""
    with redirect_stdout(Redacted(sys.stdout)), redirect_stderr(Redacted(sys.stderr)):
        try:
            _main()
        except Exception as bug:  # noqa: BLE001  # Python would print it whole, to the stream outside
            stderr.say_traceback(type(bug), bug, bug.__traceback__)
            sys.exit(1)


def _main() -> NoReturn:
    stderr.begin("", _asks_for_json(sys.argv[1:]))
    try:
        sys.exit(_run_in_json() if stderr.invocation.is_json else _command()(prog_name="retl"))
    except RetlError as error:
        for problem in error.problems:
            stderr.say_error(problem)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        from reverse_etl.system.signals import is_swallowed

        if not is_swallowed(error):
            raise
        sys.exit(128 + signal.SIGINT)  # as typer does when nothing swallows it
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)  # the reader of stdout has ended, as in `retl ls | head -1`


@cache
def _command() -> Any:
    """All commands, as typer builds them: once in a process."""
    return get_command(app)


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether stderr is to be JSON; asked before the command line is parsed, as that may fail."""
    spelled = " ".join(arguments).replace("=", " ")
    return "--log-format json" in spelled or (
        os.environ.get(LOG_FORMAT) == "json" and "--log-format text" not in spelled
    )


def _run_in_json() -> int:
    """Run the command; report an invalid command line as JSON too, where typer would print text."""
    try:
        return int(_command()(prog_name="retl", standalone_mode=False) or 0)
    except typer.Abort:
        stderr.say("aborted", "error", "error", location=None, hint=None)
        return 1
    except Exception as error:
        wrong_command: Any = error  # the exception of typer has a message and an exit code, but no public name
        if not hasattr(error, "format_message"):
            raise
        what = str(wrong_command.format_message())
        stderr.say(what, "error", "error", location=None, hint="see `retl COMMAND --help`")
        return int(wrong_command.exit_code)
