"""What it costs to find out that nothing has changed, where the model runs in Postgres.

Beside a DuckDB file, and beside the driver that reads the same query and drops its rows. The server is one of those
of `make test-engines`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

QUERY = "select * from users"
TEXTS = "SELECT * REPLACE (to_json(preferences)::VARCHAR AS preferences) FROM users"  # the driver loads no structs
READ = """import sys, adbc_driver_postgresql.dbapi as driver
with driver.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[2])
    print(sum(batch.num_rows for batch in cursor.fetch_record_batch()))"""


def loaded(server: Any, table: Path) -> None:
    """Put the rows of a DuckDB file into Postgres."""
    import adbc_driver_postgresql.dbapi as driver

    server.sql("DROP TABLE IF EXISTS users")
    with duckdb.connect(str(table), read_only=True) as connection, driver.connect(server.owner) as there:
        with there.cursor() as cursor:
            cursor.adbc_ingest("users", connection.sql(TEXTS).to_arrow_reader(100_000))
        there.commit()
    as_json = "ALTER TABLE users ALTER preferences TYPE jsonb USING preferences::jsonb"
    server.sql(as_json, "GRANT SELECT ON users TO reader", "ANALYZE users")


def on_postgres(folder: Path, table: Path) -> None:
    """Let a project of the bench run in Postgres instead of a DuckDB file."""
    spec = folder / "syncs.yml"
    ours = "{type: postgres, uri: \"{{ env_var('WAREHOUSE_URI') }}\"}"
    spec.write_text(spec.read_text().replace(f"{{type: duckdb, path: {table}}}", ours))
    (folder / "models" / "people.sql").write_text(QUERY)


def reading(uri: str) -> list[str]:
    """The driver alone, which reads the model and drops its rows."""
    return [sys.executable, "-c", READ, uri, QUERY]


def measured(
    rows: int, project: Callable[[int], Path], measure: Callable[..., Any], table: Path, retl: list[str]
) -> Iterator[tuple[str, Any]]:
    """What was measured, by name: with a DuckDB file, and in turns with Postgres and the driver alone."""
    from tests.warehouses.servers import binaries, free_port, postgres

    name = "postgres-18" if binaries("postgres-18") else "postgres-15"
    folder = project(rows)
    measure([*retl, "state", "baseline", "people", "--yes"], folder)
    yield "duckdb", measure([*retl, "sync", "people"], folder)
    with postgres(name, free_port()) as server:
        loaded(server, table)
        uri = server.uri("reader")
        folder = project(rows)
        on_postgres(folder, table)
        (folder / ".env").write_text(f"WAREHOUSE_URI={uri}\n")
        measure([*retl, "state", "baseline", "people", "--yes"], folder)
        for _ in range(3 if rows <= 1_000_000 else 1):
            yield "driver", measure(reading(uri), folder)
            yield "postgres", measure([*retl, "sync", "people"], folder)
        yield "driver", measure(reading(uri), folder)
