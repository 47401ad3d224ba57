"""What retl reads of the insides of libraries, which may move with any version of theirs.

Where they have moved, nothing breaks: runs only take longer, or more memory. So it is held here, and says where to look.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reverse_etl.engines.duckdb import changes
from reverse_etl.engines.duckdb.changes import _all_memory, _rows_read
from reverse_etl.engines.duckdb.diff import READ
from reverse_etl.plan.workbench import connect
from tests.shop import Shop

DUCKDB = f"duckdb {duckdb.__version__}, reverse_etl/engines/duckdb/changes.py"


def operators(inside: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for operator in inside:
        yield operator
        yield from operators(operator.get("children", []))


def test_profile_of_a_statement_tells_how_many_rows_the_model_returned(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Or else each run runs its model once more, only to count its rows."""
    profiles: list[str] = []
    monkeypatch.setattr(changes, "_rows_read", lambda profile: profiles.append(profile) or _rows_read(profile))
    shop.sync("it", "SELECT 'u' || range AS external_id, range AS n FROM range(5)").run()
    shop.run()
    profile = profiles[-1]
    moved = f"{DUCKDB}: _rows_read() does not find its way in the profile of EXPLAIN (ANALYZE, FORMAT json) any more"
    top = json.loads(profile)
    assert isinstance(top.get("operator"), list), f'{moved}: no list "operator" at its top, but {sorted(top)}'
    found = list(operators(top["operator"]))
    assert len(found) > 5, f'{moved}: no operators in "children" of "operator": {profile}'
    for key in ("intermediate_rows", "extra_info"):
        assert any(key in one for one in found), f'{moved}: no "{key}" in an operator, but {sorted(found[0])}'
    reads = [one for one in found if READ in json.dumps(one.get("extra_info"))]
    assert reads, f'{moved}: no operator names the column {READ} in its "extra_info": {profile}'
    assert _rows_read(profile) == 5, f"{moved}: it is {_rows_read(profile)}, of 5 rows: {profile}"


def spilled_bytes(folder: Path, has_idle_connections: bool) -> int:
    """What a join that needs a little more than its memory spills at most. One thread: else the number of cores counts."""
    with connect(folder, "64MB") as connection:
        connection.execute("SET threads = 1")
        with _all_memory(connection) if has_idle_connections else nullcontext():
            rows, text = 415_000, "hash(range + 1)::VARCHAR || repeat('x', 50)"
            few = f"SELECT hash(range) AS k, {text} AS t FROM range({rows})"
            many = f"SELECT hash(range) AS k FROM range({8 * rows})"
            join = f"SELECT count(*), max(few.t) FROM ({many}) AS many JOIN ({few}) AS few USING (k)"
            ran = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {join}").fetchall()
    return int(json.loads(ran[0][1])["system"]["peak_temp_dir_size"])


def test_join_that_spills_gets_more_memory_beside_idle_connections(tmp_path: Path):
    """A fifth of what it spills otherwise, in 2.0. Both are sizes, and no times."""
    alone, beside = (spilled_bytes(tmp_path, has_idle_connections) for has_idle_connections in (False, True))
    assert alone > 0, f"{DUCKDB}: the join of this test does not spill any more: give it less memory"
    assert beside < alone / 2, (
        f"{DUCKDB}: _all_memory() opens connections so that a join may have all of the memory (TemporaryMemoryManager in "
        f"duckdb's sources), and that does not help any more: {beside:,} bytes spilled beside them, {alone:,} without"
    )


def test_connections_of_uvicorn_can_be_reached():
    """By a broken answer, and when the sandbox stops."""
    moved = f"uvicorn {uvicorn.__version__}: look at _Protocol and Server in reverse_etl/sandbox/http/wire.py"
    assert [*inspect.signature(H11Protocol).parameters][:3] == ["config", "server_state", "app_state"], moved
    assert "self.app_state" in inspect.getsource(H11Protocol), moved
    state = ServerState()
    assert (state.connections, state.tasks) == (set(), set()), moved


def test_uvicorn_tells_a_collector_what_it_needs_to_know_of_a_connection():
    moved = f"uvicorn {uvicorn.__version__}: look at _Protocol and _Server in reverse_etl/collect/server.py"
    told = inspect.getsource(H11Protocol)
    assert [
        name for name in ("self.cycle", "response_complete", "self.connections", "self.loop") if name not in told
    ] == [], moved
    ends = [uvicorn.Server.startup, uvicorn.Server.capture_signals]
    assert [list(inspect.signature(one).parameters) for one in ends] == [["self", "sockets"], ["self"]], moved
    server = uvicorn.Server(uvicorn.Config("app"))
    assert (server.should_exit, server.force_exit) == (False, False), moved
