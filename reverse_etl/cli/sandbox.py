"""The command that serves the stand-in: sandbox."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.shared import in_project
from reverse_etl.errors import ProjectError

if TYPE_CHECKING:
    from reverse_etl.project import Project

app = typer.Typer()


@app.command()
@in_project
def sandbox(
    project: "Project",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to keep what is sent, if not beside the state.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="What goes wrong: status:status=503,probability=0.01 (see docs/sandbox.md)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of chance in faults: the same seed, the same faults.")] = 0,
    last: Annotated[int, typer.Option("--last", min=0, help="Print the last requests it took instead.")] = 0,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="KEY:SCOPE,SCOPE of an API key; without any, sandbox may do all.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="Of a rate limit: users_track=1000/60 or =none (names: see docs/sandbox.md)."),
    ] = None,
    older_contract: Annotated[
        bool,
        typer.Option(
            "--older-contract",
            help="As before August 2024: 75 objects in each array, exports of all fields, 2,500 of them a minute.",
        ),
    ] = False,
) -> None:
    """Serve a local stand-in of Braze until Ctrl-C, for tests and for other clients."""
    from reverse_etl.sandbox import OLDER_EXPORTS, FileRefusedError, Sandbox, parse_fault, parse_limits, serve

    try:
        faults = [parse_fault(text) for text in fault or []]
    except ValueError as error:
        raise ProjectError(
            f"--fault: {error}", hint="write KIND:NAME=VALUE,NAME=VALUE, as docs/sandbox.md has it"
        ) from error
    try:
        limits = {**(OLDER_EXPORTS if older_contract else {}), **parse_limits(limit or [])}
    except ValueError as error:
        raise ProjectError(f"--limit: {error}", hint="docs/sandbox.md has the names, in its table of calls") from error
    file = file or project.sandbox_file
    try:
        if last:
            with Sandbox(file) as braze:
                for request in braze.requests()[-last:]:
                    print(f"{request.path}  {request.status}\n{request.body}")
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        parts = [text.partition(":") for text in key or []]
        keys = {name: set(scopes.split(",")) if scopes else {"*"} for name, _, scopes in parts} or {"sandbox": {"*"}}

        def ready(url: str) -> None:
            print(f"{url}  keys: {', '.join(keys)}  file: {file}", flush=True)

        serve(
            file,
            port=port,
            keys=keys,
            limits=limits,
            max_objects="75 per array" if older_contract else "75 together",
            seed=seed,
            export_needs_fields=not older_contract,
            faults=faults,
            ready=ready,
        )
    except FileRefusedError as error:
        raise ProjectError(str(error), hint="name another one with --file") from error
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ProjectError(f"port {port}: {error.strerror}", hint="--port 0 takes a free one") from error
