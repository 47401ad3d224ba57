"""What it costs to find out what has changed, where rows are compared in Spark: in Sail, in a process of its own, and
in Apache Spark, if there is one in RETL_SPARK_HOME.

Beside the bare diff of the two tables: one statement of the same server, whose rows a client drops.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

TICKS = os.sysconf("SC_CLK_TCK")
MEMORY = "6g"  # of Apache Spark: with 1g, it ends itself as it sorts five million rows
SERVER = """import os, sys
os.environ["RUST_LOG"] = "off"
from pysail.spark import SparkConnectServer
server = SparkConnectServer("127.0.0.1", 0)
server.start(background=True)
print("sc://%s:%s" % server.listening_address, flush=True)
sys.stdin.read()"""


@contextmanager
def sail() -> Iterator[tuple[str, int]]:
    """The address of a server, and the id of its process."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


@contextmanager
def apache() -> Iterator[tuple[str, int]]:
    """The same of Apache Spark, with two cores, and with memory for the rows of a bench."""
    from tests.warehouses.servers import apache_process, free_port

    every_row = {"spark.driver.maxResultSize": "0"}  # all of them come to retl for a baseline
    with apache_process(Path(os.environ["RETL_SPARK_HOME"]), free_port(), MEMORY, every_row) as found:
        yield found


SERVERS = {"Sail": sail, **({"Apache Spark": apache} if os.environ.get("RETL_SPARK_HOME") else {})}


def cpu_s(process: int) -> float:
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / TICKS


def measured(
    rows: int, project: Callable[[int], Path], measure: Callable[..., Any], table: Path, retl: list[str], of: str
) -> Iterator[tuple[str, Any]]:
    """What was measured, by name; CPU time is that of the server and of what asks it. `bytes` are those that came from
    the server in a run in which nothing has changed, and `changed bytes` in a plan when one row in a hundred has."""
    from reverse_etl.engines.spark.reader import SparkReader
    from reverse_etl.errors import Location
    from tests.warehouses.one_catalog import one_catalog

    folder = project(rows)
    file = folder / "users.parquet"
    copied = f"ATTACH '{table}' AS w (READ_ONLY); COPY w.users TO '{file}' (FORMAT parquet)"
    # In a process of its own: the peak of one that is forked begins with that of its parent.
    subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.execute({copied!r})"], check=True)
    names = [name for name, *_ in duckdb.execute(f"DESCRIBE FROM '{file}'").fetchall()]
    with SERVERS[of]() as (remote, server), one_catalog(remote) as lasting:
        schema = f"bench_{secrets.token_hex(4)}"
        reader = SparkReader(lasting.address, None, Location("bench"))
        reader.execute(f"CREATE SCHEMA {schema} LOCATION '{folder / 'schema'}'")
        engine = f"{{type: spark, remote: '{lasting.address}', diff: engine, state_schema: {schema}}}"
        spec = folder / "syncs.yml"
        spec.write_text(spec.read_text().replace(f"{{type: duckdb, path: {table}}}", engine))
        (folder / "models" / "people.sql").write_text(f"SELECT * FROM parquet.`{file}`")

        def both(command: list[str]) -> Any:
            before = cpu_s(server)
            found = measure(command, folder)
            return replace(found, cpu_s=found.cpu_s + cpu_s(server) - before)

        yield "baseline", both([*retl, "state", "baseline", "people", "--yes"])
        shown = reader.execute(f"SHOW TABLES IN {schema} LIKE 'retl_*'")
        (base,) = [row["tableName"] for row in shown if not row["isTemporary"]]
        reader.close()
        differs = " OR ".join(f"NOT (s.`{name}` <=> t.`{name}`)" for name in names)
        bare = (
            f"SELECT * FROM parquet.`{file}` AS s FULL JOIN {schema}.`{base}` AS t USING (external_id) WHERE {differs}"
        )
        read = [sys.executable, "-W", "ignore", "-m", "bench.spark", lasting.address, bare]
        yield "bare", both(read)
        before = lasting.bytes_sent()
        yield "retl", both([*retl, "sync", "people"])
        yield "bytes", lasting.bytes_sent() - before
        yield "bare again", both(read)
        yield "retl again", both([*retl, "sync", "people"])
        other, last = folder / "changed.parquet", names[-1]
        change = f"* REPLACE (CASE WHEN hash(external_id) % 100 > 0 THEN {last} END AS {last})"
        copied = f"COPY (SELECT {change} FROM '{file}') TO '{other}' (FORMAT parquet)"
        subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.execute({copied!r})"], check=True)
        (folder / "models" / "people.sql").write_text(f"SELECT * FROM parquet.`{other}`")
        before = lasting.bytes_sent()
        yield "changed", both([*retl, "plan", "people"])
        yield "changed bytes", lasting.bytes_sent() - before


if __name__ == "__main__":  # a client that reads a statement, and drops its rows
    from reverse_etl.engines.spark.reader import SparkReader
    from reverse_etl.errors import Location

    client = SparkReader(sys.argv[1], None, Location("bench"))
    print(sum(batch.num_rows for batch in client.stream(sys.argv[2])))
    client.close()
