"""The command that keeps what others send by webhook: collect."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, load, say
from reverse_etl.cli.options import ProjectFolder, Variables
from reverse_etl.cli.ready import write_ready
from reverse_etl.errors import Location, ProjectError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from reverse_etl.collect.contract import Source
    from reverse_etl.project.project import LoadedProject

app = typer.Typer()


@app.command(cls=ProjectCommand)
def collect(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 picks a free port.")
    ] = 8090,
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Certificate for HTTPS (PEM, with its chain), if no proxy does it.")
    ] = None,
    cert_key: Annotated[Path | None, typer.Option("--cert-key", help="Its private key (PEM, not encrypted).")] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file", help="Write a JSON file with url, port and pid once requests are answered; removed on exit."
        ),
    ] = None,
    project_dir: ProjectFolder = Path(),
    variables: Variables = None,
) -> None:
    """Keep what is sent by webhook, for source() in models, until a signal arrives. See docs/collect.md."""
    from reverse_etl.collect.run import collect as run
    from reverse_etl.collect.run import held

    if (cert is None) != (cert_key is None):
        raise ProjectError("--cert and --cert-key need each other", hint="pass both, or neither", code="P076")
    project = load(project_dir, None, variables, needs_target=False)
    wanted = project.spec.collect
    if wanted is None:
        hint = "docs/collect.md shows the keys"
        raise ProjectError('there is no "collect"', Location("syncs.yml"), hint, code="P120")
    sources = _sources(project)
    tls = (cert, cert_key) if cert and cert_key else None
    if tls:
        _check(*tls)
    with held(project.collect_folder), _listening(host, port) as listener:
        if not tls and not _is_loopback(listener):
            say(f"{host} without --cert: put a proxy that speaks HTTPS in front of it", level="warning")
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}"

        def ready() -> None:
            tables = (f"{source.name}.{table}" for source in sources.values() for table in sorted(source.tables))
            print(f"{url}  tables: {', '.join(tables)}  folder: {project.collect_folder}", flush=True)
            if ready_file is not None:
                write_ready(ready_file, url)

        with _without(ready_file):
            run(project.collect_folder, sources, wanted.keep_of, listener, tls, ready, say)


@contextmanager
def _without(ready_file: Path | None) -> "Iterator[None]":
    """No such file before and after the block."""
    if ready_file is None:
        yield
        return
    try:
        ready_file.unlink(missing_ok=True)
        yield
    finally:
        ready_file.unlink(missing_ok=True)


def _sources(project: "LoadedProject") -> "dict[str, Source]":
    """Who may send. Raises ProjectError for a key that is not there, or that can be guessed."""
    from reverse_etl.collect.contract import Source, digest
    from reverse_etl.redaction import SHORTEST_SECRET

    found = {}
    for name, source in project.spec.collect.sources.items() if project.spec.collect else ():
        keys = project.collect_keys(name)
        if any(len(key) < SHORTEST_SECRET for key in keys):
            what = f'a key of source "{name}" has less than {SHORTEST_SECRET} characters'
            where = project.spec.positions.of_key(("collect", "sources", name, "keys"))
            raise ProjectError(what, where, "make a random one: `openssl rand -hex 20`", code="P120")
        digests = tuple(map(digest, keys))
        found[name] = Source(name, frozenset(source.tables), digests, source.key_in_url, source.rate_limit)
    return found


def _listening(host: str, port: int) -> "socket.socket":
    from reverse_etl.collect.server import listening

    try:
        return listening(host, port)
    except OSError as error:
        hint = "use --port 0 to pick a free port, and an address of this machine with --host"
        raise ProjectError(f"cannot listen on {host}, port {port}: {error.strerror}", hint=hint, code="P120") from error


def _is_loopback(listener: "socket.socket") -> bool:
    from ipaddress import ip_address

    return ip_address(listener.getsockname()[0]).is_loopback


def _check(cert: Path, cert_key: Path) -> None:
    """Raises ProjectError if HTTPS does not work with a certificate and its key."""
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, cert_key, password="")
    except OSError as error:
        why = "not a certificate with its key, in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        hint = "pass PEM files that can be read, and the key that belongs to the certificate"
        raise ProjectError(f"--cert {cert}, --cert-key {cert_key}: {why}", hint=hint, code="P120") from error
