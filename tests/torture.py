"""Syncs that are killed at random moments while the server misbehaves, and what became of each row.

    make torture            (200 kills of each mode, and of several syncs in one command; --kills, --seed, --only)
    make torture-engines    (50 of each, with models that run in Postgres, in Sail, and that Sail compares)

Each sync is a process of its own, killed with SIGKILL after a random time, or while the answer to a random record is
waited for. `make test` does the latter only, and with one thread each: there, it is the same kills each time. Of several
syncs in one command, one is planned while others send. What it had written down and what the stand-in had taken are read
without the code that is tested, and compared:

    lost          rows of the model that never arrived, after all is over
    sent again    rows that were acknowledged, and went out again unchanged, for no reason
    untold        rows that may have arrived, are not in the state, and that nobody is told of
    unledgered    acknowledged rows that the ledger of all runs does not lead to, or cells of them
    doubled       rows that do harm twice, and arrived twice (under on_in_doubt: hold)
"""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import duckdb
import requests

from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.engines.spark.tables import current_rows
from reverse_etl.errors import Location
from reverse_etl.plan.actions import Intent
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Fault, LoggedRequest, Sandbox
from reverse_etl.state.edit import resolve
from reverse_etl.state.opening import state_of
from reverse_etl.state.state import State
from reverse_etl.system.clock import Clock
from tests.ledger.replay import LET_GO, wrong_in
from tests.processes import Forked
from tests.shop import KEY, Held, Shop, Silent

ROWS_AT_FIRST = 150
POLICY = RetryPolicy(tries=3, first_wait_s=0.005, max_wait_s=0.02)
URI = "WAREHOUSE_URI"
GROUP = "b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"
Fact = tuple[str, Any]  # what is told of: its key, and its value


@dataclass(frozen=True)
class Case:
    """A mode under torture: `key` and `value` are SQL over the table t(n, v), and `state_key` over the state."""

    options: Mapping[str, Any]
    sql: str
    key: str
    state_key: str
    value: str = "NULL"
    changes: bool = False
    shrinks: bool = False  # rows leave the model, whose users are deleted
    ahead: timedelta = timedelta()  # so much time passes before each command
    not_idempotent: bool = False
    kept_in: str = "state"  # the table of the rows that are done
    canary: int = 0  # rows that are sent first, and read back
    seeds: str = ""  # users that are there before: `known`, or `renamed`
    in_doubt: str = ""  # the array of a record in doubt, where its type is not its name

    @property
    def array(self) -> str:
        return self.in_doubt or str(self.options["track_record_type"])


TRACK = {"mode": "users_track"}
TIME = "TIMESTAMP '2026-11-23' AS time"
CASES: Mapping[str, Case] = {
    "attributes": Case(
        {**TRACK, "track_record_type": "attributes"},
        "SELECT 'u' || n AS external_id, v FROM t",
        "'u' || n",
        "external_id",
        value="v",
        changes=True,
    ),
    "attributes with a canary": Case(
        {**TRACK, "track_record_type": "attributes"},
        "SELECT 'u' || n AS external_id, v FROM t",
        "'u' || n",
        "external_id",
        value="v",
        changes=True,
        canary=20,
    ),
    "attributes with inc": Case(
        {**TRACK, "track_record_type": "attributes", "pre_formatted_fields": ["visits"]},
        """SELECT 'u' || n AS external_id, '{"inc":1}' AS visits FROM t""",
        "'u' || n",
        "external_id",
        not_idempotent=True,
    ),
    "events": Case(
        {**TRACK, "track_record_type": "events"},
        f"SELECT 'u' || n % 97 AS external_id, 'seen' AS name, {TIME}, n FROM t",
        "n",
        "n",
        not_idempotent=True,
    ),
    "events, incremental": Case(
        {**TRACK, "track_record_type": "events", "incremental": {"cursor": "n"}},
        f"SELECT 'u' || n % 97 AS external_id, 'seen' AS name, {TIME}, n FROM t "
        "{% if is_incremental() %} WHERE n > {{ cursor() }} {% endif %}",
        "n",
        "n",
        not_idempotent=True,
    ),
    "events, let go": Case(  # once the watermark has passed them, and after some commands
        {**TRACK, "track_record_type": "events", "incremental": {"cursor": "n", "retention": "3 days"}},
        f"SELECT 'u' || n % 97 AS external_id, 'seen' AS name, {TIME}, n FROM t "
        "{% if is_incremental() %} WHERE n > {{ cursor() }} {% endif %}",
        "n",
        "n",
        not_idempotent=True,
        ahead=timedelta(days=1),
    ),
    "attributes, deleted": Case(
        {
            **{**TRACK, "track_record_type": "attributes", "on_removed": "delete", "allow_destructive": True},
            "guards": {"max_deletes": 1_000_000, "max_removed": "100%"},
        },
        "SELECT 'u' || n AS external_id, v FROM t",
        "'u' || n",
        "external_id",
        value="v",
        changes=True,
        shrinks=True,
    ),
    "consent": Case(  # opt-outs only, and for good: nobody is opted in again
        {**TRACK, "track_record_type": "attributes"},
        """SELECT 'u' || n AS external_id, v,
            CASE WHEN v = 0 THEN 'opted_in' ELSE 'unsubscribed' END AS email_subscribe FROM t""",
        "'u' || n",
        "external_id",
        value="v",
        changes=True,
    ),
    "purchases": Case(
        {**TRACK, "track_record_type": "purchases", "primary_key": "product_id"},
        f"SELECT 'u' || n % 97 AS external_id, 'p' || n AS product_id, 'EUR' AS currency, CAST(1.5 AS FLOAT) AS price, {TIME} FROM t",
        "'p' || n",
        "product_id",
        not_idempotent=True,
    ),
    "users_alias_new": Case(
        {"mode": "users_alias_new"},
        "SELECT 'a' || n AS alias_name, 'l' AS alias_label, 'u' || n AS external_id FROM t",
        "'a' || n",
        "alias_name",
    ),
    "users_identify": Case(
        {"mode": "users_identify"},
        "SELECT 'u' || n AS external_id, 'a' || n AS alias_name, 'l' AS alias_label FROM t",
        "'a' || n",
        "alias_name",
    ),
    "users_delete": Case(
        {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 1_000_000}},
        "SELECT 'u' || n AS external_id FROM t",
        "'u' || n",
        "external_id",
        kept_in="deleted",
    ),
    "users_merge": Case(
        {"mode": "users_merge", "allow_destructive": True, "guards": {"max_merges": 1_000_000}},
        "SELECT 'u' || n AS external_id, 'keeper' AS keep_external_id FROM t",
        "'u' || n",
        "external_id",
        kept_in="deleted",
    ),
    "users_alias_update": Case(
        {"mode": "users_alias_update"},
        "SELECT 'l' AS alias_label, 'a' || n AS old_alias_name, 'b' || n AS new_alias_name FROM t",
        "'a' || n",
        "old_alias_name",
    ),
    "users_external_ids_rename": Case(
        {"mode": "users_external_ids_rename"},
        "SELECT 'u' || n AS current_external_id, 'r' || n AS new_external_id FROM t",
        "'u' || n",
        "current_external_id",
        value="'r' || n",
        not_idempotent=True,
        seeds="known",
        in_doubt="external_id_renames",
    ),
    "users_external_ids_remove": Case(
        {"mode": "users_external_ids_remove", "allow_destructive": True, "guards": {"max_deletes": 1_000_000}},
        "SELECT 'u' || n AS external_id FROM t",
        "'u' || n",
        "external_id",
        kept_in="deleted",
        seeds="renamed",
        in_doubt="external_ids",
    ),
    "subscription_status_set": Case(
        {"mode": "subscription_status_set"},
        f"""SELECT 'u' || n AS external_id, '{GROUP[:-1]}' || n % 3 AS subscription_group_id,
            CASE WHEN v = 0 THEN 'subscribed' ELSE 'unsubscribed' END AS subscription_state FROM t""",
        "'u' || n",
        "external_id",
        value="CASE WHEN v = 0 THEN 'subscribed' ELSE 'unsubscribed' END",
        changes=True,
    ),
    "catalog_items": Case(  # new ones are put, of changed ones v is patched
        {"mode": "catalog_items", "catalog": "things"},
        "SELECT 'p' || n AS id, v, 'thing ' || n AS title FROM t",
        "'p' || n",
        "id",
        value="v",
        changes=True,
    ),
}
# Syncs of one command, in this order: each of their requests is known by its array, and the last is alone.
SEVERAL = "several syncs"
ARRAYS = {
    "attributes": "attributes",
    "events": "events",
    "subscription_status_set": "subscription_groups",
    "purchases": "purchases",
    "users_alias_new": "user_aliases",
}
READS = ("/users/export/ids", "/catalogs")  # of a canary; of a sync of items, whose first run creates it
ACCEPTED = (201, 202)
CREATE_USERS = ("attributes", "events", "purchases")
NAMES = [*CASES, SEVERAL]
# What changes acknowledged rows: those of modes that end users are hashes, and in no warehouse.
COMPARED = [name for name, case in CASES.items() if case.kept_in == "state" and not case.seeds]


def facts(body: Mapping[str, Any]) -> list[Fact]:
    """What a request body tells, in the order of its array."""
    if "attributes" in body:
        return [(one["external_id"], one.get("v")) for one in body["attributes"]]
    if "events" in body:
        return [(str(one["properties"]["n"]), None) for one in body["events"]]
    if "purchases" in body:
        return [(one["product_id"], None) for one in body["purchases"]]
    if "user_aliases" in body:
        return [(one["alias_name"], None) for one in body["user_aliases"]]
    if "aliases_to_identify" in body:
        return [(one["user_alias"]["alias_name"], None) for one in body["aliases_to_identify"]]
    if "items" in body:
        return [(one["id"], one["v"]) for one in body["items"]]
    if "merge_updates" in body:
        return [(one["identifier_to_merge"]["external_id"], None) for one in body["merge_updates"]]
    if "external_id_renames" in body:
        return [(one["current_external_id"], one["new_external_id"]) for one in body["external_id_renames"]]
    if "alias_updates" in body:
        return [(one["old_alias_name"], None) for one in body["alias_updates"]]
    if "subscription_groups" in body:
        groups = body["subscription_groups"]
        return [(one, group["subscription_state"]) for group in groups for one in group["external_ids"]]
    return [(one, None) for one in body["external_ids"]]


def users_of_aliases(body: Mapping[str, Any]) -> list[tuple[Fact, str]]:
    """The aliases that a request body tells of, each with its user."""
    return [((one["alias_name"], None), one["external_id"]) for one in body.get("user_aliases", ())]


def taken(request: LoggedRequest) -> list[Fact]:
    """What the stand-in took of a request."""
    if request.status not in ACCEPTED:
        return []
    refused = refused_by(request.answer)
    return [fact for place, fact in enumerate(facts(json.loads(request.body))) if place not in refused]


def refused_by(answer: str) -> set[int]:
    """The places of the records of a request that its answer refuses."""
    said = json.loads(answer)
    of_ids = [place for name in ("rename_errors", "removal_errors") for place, _ in said.get(name, [])]
    return {error["index"] for error in said.get("errors", [])} | set(of_ids)


def was_answered(request: LoggedRequest) -> bool:
    """Whether the whole answer went out to whoever was still there."""
    return set((request.fault or "delay").split("+")) <= {"delay", "object_error"}


def acknowledged(folder: Path, requests: Sequence[LoggedRequest]) -> Iterator[Mapping[str, Any]]:
    """Bodies of one record each, for all that the last sync knows to be taken.

    A killed one knows what stands in its journal; one that left no journal has folded in every answer.
    """
    if (folder / "journal.jsonl").exists():
        yield from _in_journal(folder)
        return
    for request in requests:
        if request.status in ACCEPTED and was_answered(request):
            yield from _one_by_one(json.loads(request.body), refused_by(request.answer))


def _one_by_one(body: Mapping[str, Any], refused: Collection[int]) -> Iterator[Mapping[str, Any]]:
    """A body for each record of a body that was not refused."""
    ((array, records),) = body.items()
    if array == "subscription_groups":
        for group in records:
            ((inner, ids),) = [(name, value) for name, value in group.items() if isinstance(value, list)]
            for place, one in enumerate(ids):
                if place not in refused:
                    yield {array: [{**group, inner: [one]}]}
        return
    for place, record in enumerate(records):
        if place not in refused:
            yield {array: [record]}


def _in_journal(folder: Path) -> Iterator[Mapping[str, Any]]:
    text = (folder / "journal.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    sent = {line["sent"]: line for line in lines if "sent" in line}
    refused = {one["seq"] for line in lines for one in line.get("rejected", [])}
    with tempfile.TemporaryDirectory() as copy:
        for path in folder.glob("outbox.duckdb*"):
            shutil.copy(path, copy)
        with duckdb.connect(Path(copy) / "outbox.duckdb") as connection:
            sql = "SELECT rowid, phase, envelope || body FROM outbox WHERE action = 'send' ORDER BY rowid"
            records = connection.execute(sql).fetchall()
    phases = {seq: phase for seq, phase, _ in records}
    for line in lines:
        if line.get("outcome") == "accepted":
            first, last = sent[line["answered"]]["first"], sent[line["answered"]]["last"]
            for seq, phase, record in records:  # a request has neighbors of one phase
                if first <= seq <= last and phase == phases[first] and seq not in refused:
                    yield json.loads(record + ("]}]}" if record.startswith('{"subscription_groups"') else "]}"))


@dataclass
class Row:
    """A line of the table."""

    case: str
    killed: int = 0
    ended: int = 0
    requests: int = 0
    faults: int = 0
    rows: int = 0
    lost: int = 0
    sent_again: int = 0
    untold: int = 0
    doubled: int = 0
    unledgered: int = 0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.sent_again or self.untold or self.doubled or self.unledgered)


def faults(chance: random.Random) -> list[Fault]:
    """The weather of one sync."""
    some = chance.choice([0.02, 0.1, 0.3])
    every = [
        Fault("status", status=503, probability=some, times=None),
        Fault("status", status=429, probability=some, times=None, headers={"Retry-After": "0.01"}),
        Fault("status", status=400, probability=some / 4, times=None, body='{"message":"no"}'),
        Fault("html", probability=some / 2, times=None),
        Fault("drop_before", probability=some / 2, times=None),
        Fault("drop_after", probability=some / 2, times=None),
        Fault("truncate", probability=some / 2, times=None),
        Fault("truncate_head", probability=some / 2, times=None),
        Fault("delay", probability=some, times=None, seconds=0.01),
        Fault("object_error", share=0.02, times=2),
        Fault("status", status=401, skip=chance.randrange(30)),
    ]
    return chance.sample(every, chance.choice([0, 0, 1, 2, 4]))


def refuses(fault: Fault) -> bool:
    """Whether rows are rejected by it: what is rejected for so long would be given up."""
    return fault.kind == "object_error" or fault.status == 400


class Ahead(Clock):
    """A clock that is ahead of that of the machine."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self._ahead = ahead

    def utc(self) -> datetime:
        return super().utc() + self._ahead


def work(folder: Path, threads: int, canary: int, ahead: timedelta) -> None:
    """One command, as a process of its own."""
    results = run(folder, threads=threads, canary=canary, clock=Ahead(ahead))
    sys.exit(1 if any(result.exit_code for result in results) else 0)


class Warehouse(Protocol):
    """Where models run, if that is not the shop's file: it has the table t of that file, too."""

    engine: Mapping[str, Any]  # as in syncs.yml
    table: str  # what models call t

    def write(self, shop: Shop, statement: str) -> None:
        """Do what was done in the shop's file."""


class InPostgres:
    def __init__(self, server: Any) -> None:
        self.engine, self.table, self._server = {"type": "postgres", "uri": f"{{{{ env_var('{URI}') }}}}"}, "t", server
        os.environ[URI] = server.uri("reader")

    def write(self, shop: Shop, statement: str) -> None:
        if statement.startswith("CREATE TABLE"):
            self._server.sql("DROP TABLE IF EXISTS t", statement, "GRANT SELECT ON t TO reader")
        else:
            self._server.sql(statement)


class InSpark:
    """A table that is a Parquet file, which a rename replaces: killed syncs may still be read for."""

    def __init__(self, remote: str, folder: Path) -> None:
        self._file = folder / "t.parquet"
        self.engine, self.table = {"type": "spark", "remote": remote}, f"parquet.`{self._file}`"

    def write(self, shop: Shop, statement: str) -> None:
        new = self._file.with_suffix(".new")
        shop.warehouse(f"COPY t TO '{new}' (FORMAT parquet)")
        new.replace(self._file)


class ComparedInSpark(InSpark):
    """The same, and the acknowledged rows are in Spark, too. The server keeps tables when a session ends."""

    def __init__(self, remote: str, folder: Path) -> None:
        super().__init__(remote, folder)
        schema = f"torture_{secrets.token_hex(4)}"
        self.engine = {**self.engine, "diff": "engine", "state_schema": schema}
        self._do(f"CREATE SCHEMA {schema} LOCATION '{folder / schema}'")

    @contextmanager
    def brought(self, state: State) -> Iterator[None]:
        """Inside the block, the state has the acknowledged rows itself."""
        import pyarrow

        pointer = pointer_of(state.rows.meta())
        if pointer:
            rows = current_rows(pointer, state.rows.types(), state.rows.key())
            found = pyarrow.Table.from_pylist(self._do(rows), self._schema(rows))
            state.connection.register("there", found)
            state.connection.execute("INSERT INTO retl_state.main.state BY NAME FROM there")
            state.connection.unregister("there")
        yield
        if pointer:
            state.connection.execute("DELETE FROM retl_state.main.state")

    def _schema(self, sql: str) -> Any:
        reader = SparkReader(str(self.engine["remote"]), None, Location("tests"))
        try:
            return next(reader._tables(f"SELECT * FROM ({sql}) LIMIT 0")).schema
        finally:
            reader.close()

    def _do(self, sql: str) -> list[dict[str, Any]]:
        reader = SparkReader(str(self.engine["remote"]), None, Location("tests"))
        try:
            return reader.execute(sql)
        finally:
            reader.close()


def project_in(folder: Path) -> LoadedProject:
    return load_project(folder, environ={"BRAZE_API_KEY": KEY, URI: os.environ.get(URI, "")})


def run(folder: Path, **options: Any) -> list[RunResult]:
    project = project_in(folder)
    has_catalog = any(sync.catalog for sync in project.spec.syncs)
    chosen = Options(policy=POLICY, create_catalog=has_catalog, **{"threads": 4, **options})
    with open_session(project) as session:
        return list(run_jobs(jobs_of(project, project.spec.syncs, chosen, Silent()), session))


@dataclass
class Account:
    """What became of the rows of one sync: `told` is all that was taken, in order."""

    case: Case
    told: list[Fact] = field(default_factory=list)
    acknowledged: set[Fact] = field(default_factory=set)
    early: set[Fact] = field(default_factory=set)  # aliases that Braze took before another sync had sent their user
    decided: set[str] = field(default_factory=set)  # keys that were in doubt, and were marked as accepted

    @property
    def kind(self) -> str:
        return self.case.array


@dataclass
class Torture:
    """Syncs of one command, by name, from the first command to the last."""

    accounts: Mapping[str, Account]
    folder: Path
    chance: random.Random
    row: Row
    threads: int
    warehouse: Warehouse | None = None
    size: int = 0
    seen: int = 0  # requests that were looked at
    seeded: int = 0  # rows whose users are there
    ahead: timedelta = timedelta()  # of the machine's clock
    users: set[str] = field(default_factory=set)  # whom a sync of attributes, events or purchases is known to have sent

    def begin(self) -> None:
        with Sandbox() as nobody:
            shop = Shop(self.folder / "shop", nobody)
        self.shop = shop
        if self.warehouse is not None:
            shop.engine = {**self.warehouse.engine}
        self.write("CREATE TABLE t (n BIGINT, v BIGINT)")
        self.grow(ROWS_AT_FIRST)
        self.sync([])

    def write(self, statement: str) -> None:
        self.shop.warehouse(statement)
        if self.warehouse is not None:
            self.warehouse.write(self.shop, statement)

    def grow(self, rows: int) -> None:
        self.write(f"INSERT INTO t SELECT n, 0 FROM generate_series({self.size}, {self.size + rows - 1}) AS r(n)")
        self.size += rows

    def change(self) -> None:
        """Let the model move on."""
        if self.chance.random() < 0.7:
            self.grow(self.chance.choice([1, 10, 100, 300]))
        changing = [account.case for account in self.accounts.values() if account.case.changes]
        if changing and self.chance.random() < 0.7:
            of, rest = self.chance.choice([2, 3, 10]), self.chance.randrange(10)
            # A value stands for one change, so that one which arrives twice was sent twice.
            whole = any(case.value == "v" for case in changing)
            self.write(f"UPDATE t SET v = v + {of} WHERE n % 10 = {rest} AND (v = 0 OR {whole})")
        if any(account.case.shrinks for account in self.accounts.values()) and self.chance.random() < 0.5:
            self.write(f"DELETE FROM t WHERE n % 23 = {self.chance.randrange(23)}")

    def sync(self, weather: list[Fault], kill_after_s: float | None = None, kill_after_records: int = 0) -> float:
        """Run one command; kill it after so long, or as it waits for the answer to such a record, if it still runs then.

        How long it took.
        """
        self.ahead += max(account.case.ahead for account in self.accounts.values())
        with self.braze() as braze:
            self.seed(braze)
            braze.add_fault(*(fault for fault in weather if not (self.ahead and refuses(fault))))
            records = count(1)
            answer = Held(braze, matches=lambda _: next(records) == kill_after_records)
            self.point_to(braze)
            began_s = time.monotonic()
            canary = max(account.case.canary for account in self.accounts.values())
            with Forked(work, self.shop.folder, self.threads, canary, self.ahead) as process:
                process.wait_for(answer.is_held, kill_after_s)
            took_s = time.monotonic() - began_s
        self.count(process.returncode)
        self.look()
        if self.ahead:  # what is in doubt for so long would be given up
            self.decide()
        return took_s

    def seed(self, braze: Sandbox) -> None:
        """Let the users be there whom the rows are about, where a case needs them."""
        needed = {account.case.seeds for account in self.accounts.values()} - {""}
        for at in range(self.seeded, self.size, 50) if needed else ():
            numbers = range(at, min(at + 50, self.size))
            self.post(braze, "/users/track", {"attributes": [{"external_id": f"u{n}"} for n in numbers]})
            if needed == {"renamed"}:
                pairs = [{"current_external_id": f"u{n}", "new_external_id": f"r{n}"} for n in numbers]
                self.post(braze, "/users/external_ids/rename", {"external_id_renames": pairs})
        self.seeded = self.size

    def post(self, braze: Sandbox, path: str, body: Mapping[str, Any]) -> None:
        answer = requests.post(f"{braze.url}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 201, answer.text
        self.seen += 1

    def count(self, code: int | None) -> None:
        if code == -signal.SIGKILL:
            self.row.killed += 1
        else:
            assert code in (0, 1), f"a sync ended with {code}"
            self.row.ended += 1

    def braze(self) -> Sandbox:
        """A server of its own for each sync: when it has ended, nothing is on its way any more."""
        return Sandbox(self.folder / "braze.sqlite", seed=self.chance.randrange(2**32), log_bodies=10**9)

    def point_to(self, braze: Sandbox) -> None:
        self.shop.braze = braze
        self.shop.destination = {"max_objects_per_request": 5}
        self.shop.syncs = [{"name": name, "model": name, **one.case.options} for name, one in self.accounts.items()]
        table = self.warehouse.table if self.warehouse else "t"
        for name, one in self.accounts.items():
            self.shop.model(name, one.case.sql.replace("FROM t", f"FROM {table}"))
        self.shop.write()

    # --- what became of it -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what the last sync did, off the stand-in's log and off what it left behind."""
        with self.braze() as braze:
            new = braze.requests(after=self.seen)
        self.seen += len(new)
        new = [request for request in new if request.path not in READS]
        self.row.requests += len(new)
        self.row.faults += sum(request.fault is not None for request in new)
        before = set(self.users)
        for name, one in self.accounts.items():
            own = [request for request in new if ARRAYS.get(name) in (None, *json.loads(request.body))]
            for request in own:
                self.row.sent_again += self.sent_again(one, json.loads(request.body))
                one.told += taken(request)
            for body in acknowledged(self.shop.folder / ".retl/test" / name, own):
                one.acknowledged.update(facts(body))
                one.early.update(fact for fact, user in users_of_aliases(body) if user not in before)
                self.users.update(record["external_id"] for array in CREATE_USERS for record in body.get(array, ()))

    def sent_again(self, one: Account, body: Mapping[str, Any]) -> int:
        """How many records of a request need not have been sent. An alias is sent again, once, when its user is known."""
        late = {fact for fact, user in users_of_aliases(body) if fact in one.early and user in self.users}
        one.early -= late
        return sum(fact in one.acknowledged and fact not in late for fact in facts(body))

    def check_told(self) -> None:
        """Whoever looks now must find each row that may have arrived in the state, or among those in doubt."""
        for name, one in self.accounts.items():
            if one.case.not_idempotent:
                self.row.untold += len({key for key, _ in one.told} - self.known(name, one))

    def known(self, name: str, one: Account) -> set[str]:
        with self.opened(name) as state:
            connection = state.connection
            sql = f"SELECT CAST({one.case.state_key} AS VARCHAR) FROM retl_state.state WHERE _retl_sent_at IS NOT NULL"
            known = {key for (key,) in connection.execute(sql).fetchall()} if state.rows.columns() else set()
            bodies = connection.execute("SELECT body FROM retl_state.in_doubt").fetchall()
        let_go = {key for key, _ in one.acknowledged} | one.decided if one.case.ahead else set()
        return known | let_go | {fact[0] for (body,) in bodies for fact in facts({one.kind: [json.loads(body)]})}

    @contextmanager
    def opened(self, name: str) -> Iterator[State]:
        """The state of a sync, with its acknowledged rows, wherever they are."""
        project = project_in(self.shop.folder)
        there = self.warehouse.brought if isinstance(self.warehouse, ComparedInSpark) else lambda _: nullcontext()
        with state_of(project, project.sync(name), clock=Ahead(self.ahead)) as state, there(state):
            yield state

    def decide(self) -> None:
        """Decide on what is in doubt: by whether it has arrived."""
        project = project_in(self.shop.folder)
        for name, one in self.accounts.items():
            with self.opened(name):
                pass  # what the last killed run has in doubt is known from here on
            there = {key for key, _ in one.told}
            for key, body in self.shop.rows_of("in_doubt", "key", "body", sync=name):
                arrived = facts({one.kind: [json.loads(body)]})[0][0] in there
                resolve(project, project.sync(name), "mark_accepted" if arrived else "resend", [key])
                if arrived:
                    one.decided.add(facts({one.kind: [json.loads(body)]})[0][0])

    def end(self) -> None:
        """Decide on what is in doubt, run to the end undisturbed, and compare with the model."""
        with self.braze() as braze:
            self.point_to(braze)
            self.check_told()
            self.decide()
            before = {name: set(one.acknowledged) for name, one in self.accounts.items()}
            first = run(self.shop.folder, intent=Intent.RETRY, clock=Ahead(self.ahead))
            last = run(self.shop.folder, clock=Ahead(self.ahead))
            assert {result.status for result in (*first, *last)} == {"success"}, (first, last)
            assert [result.delivery and result.delivery.requests for result in last] == [0] * len(self.accounts)
        for name, one in self.accounts.items():
            one.acknowledged = before[name]
        self.look()
        for name, one in self.accounts.items():
            self.compare(name, one)

    def compare(self, name: str, one: Account) -> None:
        with duckdb.connect(self.shop.folder / "warehouse.duckdb") as connection:
            sql = f"SELECT CAST({one.case.key} AS VARCHAR), {one.case.value} FROM t"
            wanted = dict(connection.execute(sql).fetchall())
        self.row.rows += len(wanted)
        with self.opened(name) as state:
            wrong = wrong_in(state)
            self.row.unledgered += sum(what != LET_GO for _, _, what, _ in wrong) if one.case.ahead else len(wrong)
            done = len(state.connection.execute(f"SELECT 1 FROM retl_state.{one.case.kept_in}").fetchall())
        last = dict(one.told)
        self.row.lost += sum(key not in last or last[key] != value for key, value in wanted.items())
        if one.case.not_idempotent:
            self.row.doubled += sum(times - 1 for times in Counter(key for key, _ in one.told).values())
        if one.case.shrinks:
            self.row.lost += sum(key not in wanted and value is not None for key, value in last.items())
        has_let_go = one.case.ahead and self.ahead > timedelta(days=6)
        assert done < len(wanted) if has_let_go else done == len(wanted) or one.case.ahead


def torture(name: str, kills: int, seed: int, by_the_clock: bool = True, warehouse: Warehouse | None = None) -> Row:
    """Put one case through so many kills; unless `by_the_clock`, nothing of it depends on the machine."""
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        chance = random.Random(f"{name} {seed}")
        cases = {of: CASES[of] for of in ARRAYS} if name == SEVERAL else {"it": CASES[name]}
        accounts = {of: Account(case) for of, case in cases.items()}
        one = Torture(accounts, Path(folder), chance, Row(name), 4 if by_the_clock else 1, warehouse)
        one.begin()
        longest_s, most_s = (0.3, 1.0) if warehouse is None else (1.0, 5.0)  # a session takes its time to begin
        while one.row.killed < kills:
            if chance.random() < 0.6:
                one.change()
            if not by_the_clock or chance.random() < 0.5:
                one.sync(faults(chance), kill_after_records=chance.choice([1, 10, 50, 200]) + chance.randrange(10))
            else:
                took_s = one.sync(faults(chance), kill_after_s=chance.uniform(0.02, longest_s))
                longest_s = min(most_s, max(0.2, 0.9 * longest_s + 0.2 * took_s))
            if chance.random() < 0.3:
                one.check_told()
        one.end()
        return one.row


HEADING = (
    "mode",
    "killed",
    "ended",
    "requests",
    "faults",
    "rows",
    "lost",
    "sent again",
    "untold",
    "doubled",
    "unledgered",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill syncs, and count what became of each row.")
    parser.add_argument("--kills", type=int, default=200, help="of each mode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=NAMES)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--postgres", help="let models run in it, such as postgres-16")
    where.add_argument("--sail", action="store_true", help="let models run in Sail, a server of Spark Connect")
    where.add_argument("--compared", action="store_true", help="and compare rows there")
    asked = parser.parse_args()
    with _warehouse(asked.postgres, asked.sail, asked.compared) as warehouse:
        rows = _all(asked, warehouse)
    sys.exit(0 if all(row.is_good for row in rows) else 1)


@contextmanager
def _warehouse(postgres: str | None, in_sail: bool, compared: bool) -> Iterator[Warehouse | None]:
    if not (postgres or in_sail or compared):
        yield None
        return
    from tests.warehouses import servers  # needs the packages of `make test-engines`

    if postgres:
        with servers.postgres(postgres, servers.free_port()) as server:
            yield InPostgres(server)
        return
    with servers.sail() as remote, tempfile.TemporaryDirectory(prefix="torture-lake-") as folder:
        if not compared:
            yield InSpark(remote, Path(folder))
            return
        from tests.warehouses.one_catalog import one_catalog

        with one_catalog(remote) as lasting:
            yield ComparedInSpark(lasting.address, Path(folder))


def _all(asked: argparse.Namespace, warehouse: Warehouse | None) -> list[Row]:
    print(f"seed {asked.seed}\n| {' | '.join(HEADING)} |\n|{'---|' * len(HEADING)}", flush=True)
    rows = []
    for name in [asked.only] if asked.only else COMPARED if asked.compared else NAMES:
        rows.append(torture(name, asked.kills, asked.seed, warehouse=warehouse))
        print(f"| {' | '.join(str(value) for value in vars(rows[-1]).values())} |", flush=True)
    return rows


if __name__ == "__main__":
    main()
