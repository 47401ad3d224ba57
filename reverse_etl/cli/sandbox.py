"""The command that runs the local Braze emulator: sandbox."""

import errno
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import load
from reverse_etl.cli.here import project_here
from reverse_etl.cli.options import is_typed
from reverse_etl.cli.ready import write_ready
from reverse_etl.errors import ProjectError
from reverse_etl.system.disk import remedy
from reverse_etl.system.private_files import create_ignored, private_files

if TYPE_CHECKING:
    from reverse_etl.sandbox import LoggedRequest

app = typer.Typer()
_ABOUT_BODIES = {
    "{}": "  (empty, such as those of `retl debug`)",
    "": "  (its body is not kept any more: too old, or somebody in it was erased)",
}
_NAMES = 'for the names, see "Endpoints" in docs/sandbox.md'


class SandboxContract(StrEnum):
    """What a contract with Braze counts."""

    DATA_POINTS = "data-points"
    MAU = "mau"


def _line_of(request: "LoggedRequest") -> str:
    """What was called and answered; of a request that is expected to have a body, why it is not shown."""
    called = request.path if request.method == "POST" else f"{request.method} {request.path}"
    what = "" if request.method == "GET" else _ABOUT_BODIES.get(request.body, "")
    return f"{called}  {request.status}{what}"


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 picks a free port.")
    ] = 8080,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="SQLite file for the sandbox's data. Default: the project's; outside a project, a temporary file.",
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", help="Inject a fault, for example status:status=503,probability=0.01 (see docs/sandbox.md)."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Random seed for faults: the same seed gives the same faults.")
    ] = 0,
    last: Annotated[
        int, typer.Option("--last", min=0, help="Print the last N requests instead of starting the server.")
    ] = 0,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="Accept an API key: KEY (all permissions), or KEY:PERMISSION,PERMISSION. "
            "Default: the key sandbox, with all permissions.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help="Override a rate limit: users_track=1000/60, or users_track=none (names: see docs/sandbox.md).",
        ),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--others",
            help="Requests that other clients make, evenly, as long as a rate limit has room: users_track=300/3.",
        ),
    ] = None,
    legacy_contract: Annotated[
        bool,
        typer.Option(
            "--legacy-contract",
            help="Behave like contracts from before August 2024: 75 objects per array, exports of all fields, "
            "2,500 exports per minute.",
        ),
    ] = False,
    contract: Annotated[
        SandboxContract,
        typer.Option(
            "--contract",
            help="Limits of /users/track, by contract: data-points, or mau (per hour with a burst, other headers).",
        ),
    ] = SandboxContract.DATA_POINTS,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            help="Write a JSON file with url, port, pid and keys once the server is ready; removed on exit.",
        ),
    ] = None,
    parent_pid: Annotated[int | None, typer.Option("--parent-pid", min=1, help="Exit when this process exits.")] = None,
    project_dir: Annotated[
        Path | None,
        typer.Option(
            "--project-dir", envvar="RETL_PROJECT_DIR", help="Project folder (contains syncs.yml), if there is one."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", envvar="RETL_TARGET", help="Target in syncs.yml, if not the default."),
    ] = None,
    variables: Annotated[str | None, typer.Option("--vars", help="Values for var(), as YAML: '{country: KR}'.")] = None,
) -> None:
    """Run a local Braze emulator until Ctrl-C, for tests and other clients, with a web page to inspect it.

    Needs no project. Inside one, it uses the same data file as the project's runs against the sandbox.
    """
    from reverse_etl.sandbox import (
        OLDER_EXPORTS,
        FileRefusedError,
        Sandbox,
        parse_fault,
        parse_limits,
        parse_others,
        serve,
    )

    try:
        faults = [parse_fault(text) for text in fault or []]
    except ValueError as error:
        raise ProjectError(
            f"--fault: {error}", hint="use KIND:NAME=VALUE,NAME=VALUE; see docs/sandbox.md", code="P073"
        ) from error
    try:
        limits = {**(OLDER_EXPORTS if legacy_contract else {}), **parse_limits(limit or [])}
    except ValueError as error:
        raise ProjectError(f"--limit: {error}", hint=_NAMES, code="P073") from error
    try:
        by_others = parse_others(others or [])
    except ValueError as error:
        raise ProjectError(f"--others: {error}", hint=_NAMES, code="P073") from error
    options = {"project_dir": "--project-dir", "target": "--target", "variables": "--vars"}
    named = [option for name, option in options.items() if is_typed(context, name)]
    if file is not None and named:
        raise ProjectError(
            f"--file cannot be combined with {named[0]}: both set the data file", hint="remove one of them", code="P076"
        )
    if legacy_contract and contract is SandboxContract.MAU:
        raise ProjectError(
            "--legacy-contract cannot be combined with --contract mau: contracts by monthly active users are newer",
            hint="remove one of them",
            code="P076",
        )
    is_of_project = file is None
    if file is None:
        folder = project_dir or project_here()
        has_project = bool(named) or (folder / "syncs.yml").exists()
        file = load(folder, target, variables).sandbox_file if has_project else None
    try:
        if last:
            if file is None:
                raise ProjectError(
                    "--last: there is no project in this folder", hint="pass the sandbox file with --file", code="P083"
                )
            with Sandbox(file) as braze:
                for request in braze.requests()[-last:]:
                    print("\n".join([_line_of(request), *filter(None, [request.body])]))
            return
        if file is not None:
            with private_files():
                if is_of_project:
                    create_ignored(file.parents[1])
                file.parent.mkdir(parents=True, exist_ok=True)
        parts = [text.partition(":") for text in key or []]
        keys = {name: set(scopes.split(",")) if scopes else {"*"} for name, _, scopes in parts} or {"sandbox": {"*"}}
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)

        def ready(url: str) -> None:
            print(f"{url}  keys: {', '.join(keys)}  file: {file or 'temporary'}", flush=True)
            if ready_file is not None:
                write_ready(ready_file, url, keys=list(keys))

        try:
            braze = Sandbox(
                file,
                port=port,
                keys=keys,
                limits=limits,
                max_objects="75 per array" if legacy_contract else "75 together",
                seed=seed,
                export_needs_fields=not legacy_contract,
                contract="mau" if contract is SandboxContract.MAU else "data points",
                others=by_others,
            )
            braze.add_fault(*faults)
            serve(braze, ready, parent_pid)
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    except FileRefusedError as error:
        raise ProjectError(str(error), hint="pass another file with --file", code="P083") from error
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES) and error.filename is None:
            raise ProjectError(
                f"port {port}: {error.strerror}", hint="use --port 0 to pick a free port", code="P083"
            ) from error
        if error.filename is None:
            raise
        hint = remedy(error, "pass a path that can be written")
        raise ProjectError(f"{error.filename}: {error.strerror}", hint=hint, code="P083") from error
