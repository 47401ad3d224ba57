"""`retl collect` as a process, for tests."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import requests

from reverse_etl.project.collected import current, parts_of
from tests.canary import KEY
from tests.processes import Forked, command

SYNCS = """version: 1
default_target: it
targets:
  it:
    warehouse: {type: duckdb, path: warehouse.duckdb}
    destination: {type: braze, endpoint: sandbox}
syncs: []
collect:
  sources:
    shop:
      keys: ["{{ env_var('POSTBACK_KEY') }}"]
      tables: {opt_outs: {}, events: {}}
"""


@dataclass
class Running:
    """A collector that answers requests."""

    folder: Path
    process: Forked
    url: str
    session: requests.Session

    def post(self, body: Any, table: str = "opt_outs", key: str = KEY, **more: Any) -> requests.Response:
        data = body if isinstance(body, bytes | str) or hasattr(body, "__next__") else json.dumps(body)
        headers = {"X-TD-Write-Key": key, **more.pop("headers", {})}
        return self.session.post(f"{self.url}/postback/v3/event/shop/{table}", data=data, headers=headers, **more)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def project(folder: Path, syncs: str = SYNCS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "syncs.yml").write_text(syncs)
    return folder


def changed(constants: dict[str, Any], folder: Path, environ: dict[str, str], *arguments: str) -> None:
    """The command, in a process in which constants of `reverse_etl.collect` have other values: less to wait for."""
    import reverse_etl.collect.keep
    import reverse_etl.collect.server

    for name, value in constants.items():
        module = reverse_etl.collect.keep if hasattr(reverse_etl.collect.keep, name) else reverse_etl.collect.server
        assert hasattr(module, name)
        setattr(module, name, value)
    command(folder, environ, *arguments)


def start(folder: Path, *options: str, **constants: Any) -> Forked:
    environ = {**os.environ, "POSTBACK_KEY": KEY, "COLUMNS": "200"}
    arguments = ["collect", "--port", "0", "--ready-file", str(folder / "ready.json"), *options]
    return Forked(changed, constants, folder, environ, *arguments)


@contextmanager
def collecting(folder: Path, *options: str, **constants: Any) -> Iterator[Running]:
    """A collector of the project in a folder; it is killed at the end, unless it has ended."""
    if not (folder / "syncs.yml").exists():
        project(folder)
    ready = folder / "ready.json"
    with start(folder, *options, **constants) as process, requests.Session() as session:
        process.wait_until(lambda: ready.exists() and process.out.endswith("\n"))
        yield Running(folder, process, json.loads(ready.read_text())["url"], session)


def records(folder: Path, table: str = "opt_outs", source: str = "shop") -> list[Any]:
    """What is in the current Parquet files of a table, in order."""
    place = folder / "collected" / source / table
    files = [str(place / part.name) for part in current(parts_of(os.listdir(place)))] if place.exists() else []
    if not files:
        return []
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT record FROM read_parquet({files}) ORDER BY received_at").fetchall()
    return [json.loads(text) for (text,) in found]
