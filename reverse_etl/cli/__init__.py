"""The command line: options -> run -> print -> exit code. Results go to stdout, everything else to stderr.

    project    init seed schema ls compile show exposures
    sync       sync retry
    plan       plan apply
    revert     revert
    schedule   run-due scheduler
    test       test
    lock       lock
    verify     verify
    inspect    debug explain status history rejects resolve
    sandbox    sandbox
    collect    collect
    alert      alert test
    docs       docs generate
    forget     forget
    why        why
    flaps      flaps
    state      state show | baseline | reset

    options    options shared by several commands
    context    loading the project, selecting syncs, printing
    here       which project the current folder is in
    completion what a shell completes
    ready      the file that says that a server is up
    execute    runs syncs, prints their results, ends the command
    artifacts  the files that a command writes to target/

Commands import what they need themselves, so that `retl --help` prints at once.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from copy import copy
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_command_name
from typer.models import TyperInfo

from reverse_etl.cli import (
    alert,
    collect,
    docs,
    flaps,
    forget,
    inspect,
    lock,
    narrow,
    plan,
    project,
    revert,
    sandbox,
    schedule,
    state,
    sync,
    test,
    verify,
    why,
)
from reverse_etl.cli.options import Output
from reverse_etl.errors import Problem, RetlError
from reverse_etl.redaction import Redacted
from reverse_etl.report import stderr
from reverse_etl.system.streams import Stream, open_closed_files


class Commands(TyperGroup):
    """A group whose help has the whole first sentence of each command, on as many lines as it needs."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer makes an exit code of it, without a word
            stderr.say(INTERRUPTED, "interrupted", "warning")
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(WHOLE)) for name, one in commands if one])


INTERRUPTED = "interrupted"
WHOLE = 1000  # characters
app = typer.Typer(
    name="retl",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws boxes took half the time of `retl --help`
)
_SEND, _SHOW = (project, sync, plan, revert, schedule, test, lock), (inspect, why, flaps, verify)
for commands in (*_SEND, *_SHOW, forget, sandbox, collect):
    app.add_typer(commands.app)
app.add_typer(alert.app, name="alert", cls=Commands, help="Check who is told when a sync fails.", no_args_is_help=True)
app.add_typer(docs.app, name="docs", cls=Commands, help="Make a page of the project.", no_args_is_help=True)
app.add_typer(
    state.app, name="state", cls=Commands, help="Inspect or change the state of a sync.", no_args_is_help=True
)


LOG_FORMAT = "RETL_LOG_FORMAT"
READER_HAS_ENDED = 141  # as in `retl ls | head -1`: what a shell reports of a process that SIGPIPE has ended


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

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
    traceback of a bug. What cannot be printed changes nothing of what it does, only its exit code."""
    open_closed_files()
    out, err = Stream(sys.stdout), Stream(sys.stderr)
    with redirect_stdout(Redacted(out)), redirect_stderr(Redacted(err)):
        try:
            code = _main()
        except Exception as error:  # noqa: BLE001  # Python would print it whole, to the stream outside
            code = 1
            if problem := _of_the_machine(error):
                stderr.say_error(problem)
            else:
                stderr.say_traceback(type(error), error, error.__traceback__)
        finally:
            out.flush()
            err.flush()
        sys.exit(_after_printing(out, code))


def _after_printing(out: Stream, code: int) -> int:
    """The exit code of a command that would have ended with `code`. Reports what stdout did not take."""
    if isinstance(out.failure, BrokenPipeError):
        return code or READER_HAS_ENDED
    if out.failure:
        what = f"cannot write to stdout: {out.failure.strerror}"
        stderr.say_error(Problem(what, hint="only its output is lost: the command ran to its end", code="X007"))
        return _of_error(code or 1)
    if out.is_replaced:
        what = f"stdout is {out.encoding}: characters that it does not have were replaced"
        stderr.say(f"{what}; to print them, set PYTHONIOENCODING=utf-8", level="warning")
    return code


def _main() -> int:
    """Run the command; its exit code."""
    stderr.begin("", _asks_for_json(sys.argv[1:]))
    try:
        return _run()
    except RetlError as error:
        for problem in error.problems:
            stderr.say_error(problem)
        return _of_error(error.exit_code)
    except Exception as error:
        from reverse_etl.system.signals import is_swallowed

        if not is_swallowed(error):
            raise
        stderr.say(INTERRUPTED, "interrupted", "warning")
        return 128 + signal.SIGINT  # as typer does when nothing swallows it


def _of_the_machine(error: Exception) -> Problem | None:
    """What to say of an error that is no bug: memory or a file that the system does not give."""
    from reverse_etl.system import disk, memory

    if memory.is_out_of_memory(error):
        return Problem(
            f"out of memory: {' '.join(str(error).split()) or type(error).__name__}", hint=memory.HINT, code="D005"
        )
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return Problem(what, hint=disk.remedy(error, None), code="X008")
    return None


def _of_error(code: int) -> int:
    """The exit code of an error; where 2 means changes, it is 1."""
    return 1 if code and "--detailed-exitcode" in sys.argv else code


def _asked_for(arguments: Sequence[str]) -> str:
    """The word of a command line that may be the name of a command; empty if its first ones are options of others."""
    words = [word for word in arguments if not word.startswith("--log-format=")]
    if words[:1] == ["--log-format"]:
        words = words[2:]
    return next(iter(words), "")


@cache
def _command(name: str) -> Any:
    """The command line as typer builds it: of all commands, or only of those in one file with the one that has this
    name, as to build all takes as long as to read a project. Once in a process."""
    part = copy(app)
    part.registered_groups = [group for group in app.registered_groups if name in _names(group)]
    return get_command(part if part.registered_groups else app)


def _names(group: TyperInfo) -> set[str | None]:
    """What is typed to reach the commands of a file."""
    if isinstance(group.name, str):
        return {group.name}
    commands = group.typer_instance.registered_commands if group.typer_instance else ()
    return {one.name or get_command_name(one.callback.__name__) for one in commands if one.callback}


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether stderr is to be JSON; asked before the command line is parsed, as that may fail."""
    spelled = " ".join(arguments).replace("=", " ")
    return "--log-format json" in spelled or (
        os.environ.get(LOG_FORMAT) == "json" and "--log-format text" not in spelled
    )


def _run() -> int:
    """Run the command; report an invalid command line, as JSON where stderr is JSON."""
    try:
        command = _command(_asked_for(sys.argv[1:]))
        return int(command(prog_name="retl", standalone_mode=False, **narrow.settings()) or 0)
    except typer.Abort:
        stderr.say(
            "aborted" if stderr.invocation.is_json else "Aborted!",
            "error",
            "error",
            location=None,
            hint=None,
            code=None,
        )
        return 1
    except Exception as error:
        wrong_command: Any = error  # the exception of typer has a message and an exit code, but no public name
        if not hasattr(error, "format_message"):
            raise
        what = str(wrong_command.format_message())
        if stderr.invocation.is_json:
            stderr.say_error(Problem(what, hint="see `retl COMMAND --help`", code="P112"))
        else:
            if "\n" not in wrong_command.message:  # which is the help of a group of commands
                wrong_command.format_message = lambda: narrow.fitted_error(f"{what} [P112]")
            wrong_command.show()
        return _of_error(int(wrong_command.exit_code))
