"""The command that serves the stand-in: sandbox."""

import errno
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import load
from reverse_etl.errors import ProjectError

app = typer.Typer()


@app.command()
def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Where to keep what is sent: else the project's, without a project a temporary one."
        ),
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
    legacy_contract: Annotated[
        bool,
        typer.Option(
            "--legacy-contract",
            help="As before August 2024: 75 objects in each array, exports of all fields, 2,500 of them a minute.",
        ),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", help="Written when it answers, gone when it ends: JSON of url, port, pid, keys."),
    ] = None,
    parent_pid: Annotated[
        int | None, typer.Option("--parent-pid", min=1, help="End when this process has ended.")
    ] = None,
    project_dir: Annotated[
        Path | None, typer.Option("--project-dir", help="The folder with syncs.yml, if there is one.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="A target of syncs.yml, if not its default.")
    ] = None,
    variables: Annotated[str | None, typer.Option("--vars", help="Values for var(), as YAML: '{country: KR}'.")] = None,
) -> None:
    """Serve a local stand-in of Braze until Ctrl-C, for tests and for other clients; with a page to look at it.

    Needs no project: in one, it keeps what is sent where its runs do.
    """
    from reverse_etl.sandbox import OLDER_EXPORTS, FileRefusedError, Sandbox, parse_fault, parse_limits, serve

    try:
        faults = [parse_fault(text) for text in fault or []]
    except ValueError as error:
        raise ProjectError(
            f"--fault: {error}", hint="write KIND:NAME=VALUE,NAME=VALUE, as docs/sandbox.md has it"
        ) from error
    try:
        limits = {**(OLDER_EXPORTS if legacy_contract else {}), **parse_limits(limit or [])}
    except ValueError as error:
        raise ProjectError(f"--limit: {error}", hint="docs/sandbox.md has the names, in its table of calls") from error
    asked_for = {"--project-dir": project_dir, "--target": target, "--vars": variables}
    named = [option for option, value in asked_for.items() if value is not None]
    if file is not None and named:
        raise ProjectError(f"--file and {named[0]} both say where it is kept", hint="leave one of them out")
    file = file or _file_of_project(project_dir, target, variables)
    try:
        if last:
            if file is None:
                raise ProjectError("--last: there is no project here", hint="name the sandbox's file with --file")
            with Sandbox(file) as braze:
                for request in braze.requests()[-last:]:
                    print(f"{request.path}  {request.status}\n{request.body}")
            return
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        parts = [text.partition(":") for text in key or []]
        keys = {name: set(scopes.split(",")) if scopes else {"*"} for name, _, scopes in parts} or {"sandbox": {"*"}}
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)

        def ready(url: str) -> None:
            print(f"{url}  keys: {', '.join(keys)}  file: {file or 'a temporary one'}", flush=True)
            if ready_file is not None:
                _write_ready(ready_file, url, list(keys))

        try:
            serve(
                file,
                port=port,
                keys=keys,
                limits=limits,
                max_objects="75 per array" if legacy_contract else "75 together",
                seed=seed,
                export_needs_fields=not legacy_contract,
                faults=faults,
                parent=parent_pid,
                ready=ready,
            )
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    except FileRefusedError as error:
        raise ProjectError(str(error), hint="name another one with --file") from error
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES) and error.filename is None:
            raise ProjectError(f"port {port}: {error.strerror}", hint="--port 0 takes a free one") from error
        if error.filename is None:
            raise
        raise ProjectError(f"{error.filename}: {error.strerror}", hint="name a file that can be written") from error


def _file_of_project(folder: Path | None, target: str | None, variables: str | None) -> Path | None:
    """The project's sandbox file; None where there is no project and none was asked for."""
    is_asked_for = (folder, target, variables) != (None, None, None)
    folder = folder or Path()
    if not is_asked_for and not (folder / "syncs.yml").exists():
        return None
    return load(folder, target, variables).sandbox_file


def _write_ready(path: Path, url: str, keys: list[str]) -> None:
    """Whole or not at all, so that whoever waits for the file can read it at once."""
    import json
    import os

    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as written:
        json.dump({"url": url, "port": int(url.rpartition(":")[2]), "pid": os.getpid(), "keys": keys}, written)
    part.replace(path)
