"""Postgres as the warehouse: its types, its errors, its sessions."""

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from reverse_etl.engines.postgres.reader import PostgresReader
from tests.processes import HANG_S
from tests.shop import Retl, Shop, start
from tests.warehouses.servers import PostgresServer, free_port

USER = "SELECT 'u1' AS external_id"
SLOW = "SELECT 'u' || i AS external_id, pg_sleep(0.001) IS NULL AS n FROM generate_series(1, 1000000) i"


def sent(shop: Shop) -> dict[str, Any]:
    """The attributes of the only user."""
    ((user,),) = (json.loads(body).values() for body in shop.sent())
    (user,) = user
    return {name: value for name, value in user.items() if name != "external_id"}


def said(shop: Shop, retl: Retl, *arguments: str) -> tuple[int, str]:
    done = retl(*(arguments or ("plan", "it")), folder=shop.folder)
    return done.code, done.err


# --- types -----------------------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[str, Any]] = {
    "int2": ("(-32768)::int2", -32768),
    "int4": ("2147483647", 2147483647),
    "int8": ("(-9223372036854775808)::int8", -9223372036854775808),
    "float4": ("1.5::float4", 1.5),
    "float8": ("0.1::float8", 0.1),
    "bool": ("true", True),
    "numeric(10,2)": ("12.30::numeric(10, 2)", "12.30"),
    "numeric(38,0)": ("(-99999999999999999999999999999999999999)::numeric(38, 0)", "-99999999999999999999999999999999999999"),
    "numeric(38,20)": ("0.00000000000000000001::numeric(38, 20)", "0.00000000000000000001"),
    "domain": ("1.5::tests.price", "1.50"),
    "text": ("'né \"x\" \\ 한'", 'né "x" \\ 한'),
    "varchar": ("'v'::varchar(5)", "v"),
    "char(4)": ("'c'::char(4)", "c"),
    "name": ("'n'::name", "n"),
    "date": ("date '2024-02-29'", "2024-02-29"),
    "old date": ("date '0001-01-01'", "0001-01-01"),
    "time": ("time '10:20:30.123456'", "10:20:30.123456"),
    "timetz": ("timetz '10:20+02'", "10:20:00+02"),
    "timestamp": ("timestamp '2024-02-29 10:20:30.123456'", "2024-02-29T10:20:30.123Z"),
    "timestamptz": ("timestamptz '2024-02-29 10:20:30+02'", "2024-02-29T08:20:30.000Z"),
    "uuid": ("uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "json": ("json '{\"b\": 1, \"a\": [2, 1.10]}'", {"b": 1, "a": [2, 1.1]}),
    "jsonb": ("jsonb '{\"a\": {\"b\": true}}'", {"a": {"b": True}}),
    "int[]": ("array[1, 2, 3]", [1, 2, 3]),
    "text[]": ("array['a', 'b c', '']", ["a", "b c", ""]),
    "empty array": ("array[]::text[]", []),
    "float8[]": ("array[1.5, -2]::float8[]", [1.5, -2.0]),
    "bool[]": ("array[true, false]", [True, False]),
    "uuid[]": ("array[uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "jsonb[]": ("array[jsonb '{\"a\": 1}']", [{"a": 1}]),
    "enum": ("'happy'::tests.mood", "happy"),
    "enum[]": ("array['happy', 'sad']::tests.mood[]", ["happy", "sad"]),
    "composite": ("row(1, 'x')::tests.place", {"x": 1, "y": "x"}),
    "composite[]": ("array[row(1, '')::tests.place]", [{"x": 1, "y": ""}]),
    "range": ("int4range(1, 5)", "[1,5)"),
    "inet": ("inet '10.0.0.0/8'", "10.0.0.0/8"),
    "macaddr": ("macaddr '08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    "bit": ("B'101'", "101"),
    "xml": ("'<a>1</a>'::xml", "<a>1</a>"),
}  # fmt: skip


def types_of(server: PostgresServer) -> dict[str, tuple[str, Any]]:
    """The servers of PyPI are built without XML."""
    has_xml = server.name == "postgres-15"
    return {name: case for name, case in TYPES.items() if has_xml or name != "xml"}


@pytest.fixture(scope="module")
def typed(server: PostgresServer) -> PostgresServer:
    server.sql(
        "CREATE SCHEMA IF NOT EXISTS tests",
        "GRANT USAGE ON SCHEMA tests TO reader",
        "CREATE TYPE tests.mood AS ENUM ('happy', 'sad')",
        "CREATE TYPE tests.place AS (x int, y text)",
        "CREATE DOMAIN tests.price AS numeric(6, 2)",
    )
    return server


def test_each_type_arrives_as_it_is(typed: PostgresServer, pg: Shop):
    columns = ", ".join(f"{sql} AS c{n}" for n, (sql, _) in enumerate(types_of(typed).values()))
    pg.sync("it", f"SELECT 'u1' AS external_id, {columns}")
    result = pg.run()
    assert [str(one) for one in result.errors] == []
    found = sent(pg)
    (body,) = pg.sent()
    for n, (name, (_, expected)) in enumerate(types_of(typed).items()):
        if name.startswith(("numeric", "domain")):
            assert f'"c{n}":{expected}' in body, name
        else:
            assert (name, found[f"c{n}"]) == (name, expected)
    assert pg.run().plan.to_send == 0


def test_each_type_arrives_as_null(typed: PostgresServer, pg: Shop):
    columns = ", ".join(f"{sql} AS c{n}" for n, (sql, _) in enumerate(types_of(typed).values()))
    pg.sync(
        "it", f"SELECT 'u1' AS external_id, none.* FROM (SELECT 1) AS i LEFT JOIN (SELECT {columns}) AS none ON false"
    )
    result = pg.run()
    assert [str(one) for one in result.errors] == []
    assert sent(pg) == {}


@pytest.mark.parametrize("of", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("value", ["infinity", "-infinity"])
def test_infinite_times_stay_infinite(of: str, value: str, pg: Shop):
    pg.sync("it", f"{USER}, {of} '{value}' AS n, {of} '{'-' if value == 'infinity' else ''}infinity' AS m")
    result = pg.run()
    assert {row.column for row in result.left_out} == {"m", "n"}
    assert {row.reason for row in result.left_out} == {
        "is outside the years 0 to 9999"
    }  # of what is kept apart from NULL
    assert [body for body in pg.sent() if "290279" in body] == []


def test_nan_stays_nan(pg: Shop):
    pg.sync("it", f"{USER}, 'NaN'::float8 AS n, 'Infinity'::float4 AS m")
    assert {row.column for row in pg.run().left_out} == {"m", "n"}


REFUSED = {
    "1.5 + 1.25": ("numeric without a precision of at most 38 digits", "n::numeric(18, 2) AS n, or ::bigint, or ::float8: what it is meant to be"),
    "sum(1.5::numeric(4, 2)) OVER ()": ("numeric without a precision of at most 38 digits", "n::numeric(18, 2) AS n, or ::bigint, or ::float8: what it is meant to be"),
    "1::numeric(40, 2)": ("numeric without a precision of at most 38 digits", "n::numeric(18, 2) AS n, or ::bigint, or ::float8: what it is meant to be"),
    "money '1.50'": ("money", "n::numeric(19, 2) AS n"),
    "interval '1 day'": ("interval", "n::text AS n"),
    "1::oid": ("oid", "n::bigint AS n"),
    "point(1, 2)": ("point", "n::text AS n"),
    "array[1.5::numeric(4, 2)]": ("numeric[]", "to_jsonb(n) AS n"),
    "array[date '2024-01-01']": ("date[]", "to_jsonb(n) AS n"),
    "array[timestamptz '2024-01-01']": ("timestamptz[]", "to_jsonb(n) AS n"),
    "row(1, 2)": ("record", "to_jsonb(n) AS n"),
}  # fmt: skip


@pytest.mark.parametrize("sql", REFUSED)
def test_type_that_would_arrive_changed_is_refused_with_a_cast(sql: str, pg: Shop):
    shown, cast = REFUSED[sql]
    pg.sync("it", f"{USER}, {sql} AS n")
    (problem,) = pg.run().errors
    assert str(problem) == (
        f'models/it.sql: column "n" is {shown}, which does not arrive as it is\n  hint: return {cast}'
    )
    first = cast.partition(" AS n")[0].replace("n::", f"({sql})::").replace("to_jsonb(n)", f"to_jsonb({sql})")
    pg.sync("it", f"{USER}, {first} AS n")
    assert pg.run().status == "success"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("(CASE WHEN i = 3 THEN 'NaN'::numeric ELSE i END)::numeric(4, 1)", "is NaN or infinite, which no DECIMAL(4, 1) is: cast it to float8 in the model"),
        ("CASE WHEN i = 3 THEN array[array[1], array[2]] ELSE array[1] END", "is an array of several dimensions: return to_jsonb() of it"),
    ],
)  # fmt: skip
def test_value_that_would_arrive_changed_ends_the_run(sql: str, why: str, pg: Shop):
    pg.sync("it", f"SELECT 'u' || i AS external_id, {sql} AS n FROM generate_series(1, 5) i")
    result = pg.run()
    assert (result.exit_code, [str(one) for one in result.errors]) == (1, [f'models/it.sql: column "n" {why}'])
    assert pg.sent() == []


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 'u1' AS external_id,\n  no_such\n", 'models/it.sql:2: column "no_such" does not exist\n  hint: see the compiled SQL in target/compiled/it.sql, line 2'),
        ("SELECT 'é€' AS external_id\nFROM\n  nowhere", 'models/it.sql:3: relation "nowhere" does not exist\n  hint: see the compiled SQL in target/compiled/it.sql, line 3'),
        ("SELECT 'u1' AS external_id, 1 / (i - 3) AS n FROM generate_series(1, 5) i", "models/it.sql: division by zero\n  hint: see the compiled SQL in target/compiled/it.sql"),
        ("SELECT 'u1' AS external_id, ('ann@example.com' || i)::int AS n FROM generate_series(1, 5) i", "models/it.sql: invalid input syntax for type integer: ***\n  hint: see the compiled SQL in target/compiled/it.sql"),
        ("SELECT 1 AS a, 2 AS a", 'models/it.sql: the model returns several columns "a"\n  hint: rename one with AS'),
        ('SELECT 1 AS "A", 2 AS a', 'models/it.sql: the model returns several columns "a"\n  hint: rename one with AS'),
        ("SELECT 1; SELECT 2", 'models/it.sql:1: syntax error at or near ";"\n  hint: see the compiled SQL in target/compiled/it.sql, line 1'),
        ("SELECT nextval('tests_numbers') AS external_id", "models/it.sql: a model must be a single SELECT: cannot execute nextval() in a read-only transaction"),
        ("WITH gone AS (\n  DELETE FROM tests_rows RETURNING id)\nSELECT id AS external_id FROM gone", "models/it.sql:1: WITH clause containing a data-modifying statement must be at the top level\n  hint: see the compiled SQL in target/compiled/it.sql, line 1"),
        ("SELECT set_config('transaction_read_only', 'off', true) AS external_id", "models/it.sql: transaction read-write mode must be set before any query\n  hint: see the compiled SQL in target/compiled/it.sql"),
        ("{{ config(dialect='hive') }}SELECT 1", "models/it.sql:1: config(): models of this target run in Postgres, and are not translated\n  hint: remove it, and write Postgres's own SQL"),
    ],
)  # fmt: skip
def test_error_leads_to_the_line_of_the_model(sql: str, expected: str, server: PostgresServer, pg: Shop):
    server.sql(
        "CREATE SEQUENCE IF NOT EXISTS tests_numbers",
        "GRANT ALL ON tests_numbers TO reader",
        "CREATE TABLE IF NOT EXISTS tests_rows (id int)",
        "GRANT ALL ON tests_rows TO reader",
    )
    pg.sync("it", sql)
    result = pg.run()
    assert (result.exit_code, [str(one) for one in result.errors], pg.sent()) == (2, [expected], [])
    assert server.sessions() == 0


PASSWORD = "pass-w0rd-of-somebody"


@pytest.mark.parametrize(
    ("uri", "code", "expected"),
    [
        (
            "postgresql://reader:pass-w0rd-of-somebody@127.0.0.1:{port}/postgres", 2,
            'syncs.yml:7:12: cannot connect to Postgres: password authentication failed for user "reader"\n'
            "  hint: correct the address in the environment, or ask who runs the database\n",
        ),
        (
            "postgresql://reader:{password}@127.0.0.1:{port}/nothing", 2,
            'syncs.yml:7:12: cannot connect to Postgres: database "nothing" does not exist\n'
            "  hint: correct the address in the environment, or ask who runs the database\n",
        ),
        (
            "postgresql://reader:{password}@127.0.0.1:{free}/postgres", 1,
            "syncs.yml:7:12: cannot connect to Postgres: Connection refused\n"
            "  hint: check host and port; or try again when it answers\n",
        ),
        (
            "postgresql://reader:pass-w0rd@of-somebody:x@127.0.0.1:{port}/postgres", 2,
            "syncs.yml:7:12: libpq does not understand the address of the warehouse\n"
            "  hint: it is postgresql://[user[:password]@]host[:port]/database, @ : / in a password as %40 %3A %2F\n",
        ),
        (
            "", 2,
            'syncs.yml:7:12: "uri" of the warehouse is empty\n  hint: set WAREHOUSE_URI in the environment or in .env\n',
        ),
        (
            "mysql://reader:pass-w0rd-of-somebody@127.0.0.1:{port}/postgres", 2,
            "syncs.yml:7:12: the address of the warehouse is not a URI of Postgres\n"
            "  hint: write it as postgresql://[user[:password]@]host[:port]/database\n",
        ),
    ],
    ids=["wrong password", "no such database", "nobody listens", "odd password", "empty", "another database"],
)  # fmt: skip
def test_address_that_leads_nowhere_is_an_error_without_the_password(
    uri: str, code: int, expected: str, server: PostgresServer, pg: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    pg.sync("it", USER)
    uri = uri.format(port=server.port, password=server.password, free=free_port())
    monkeypatch.setenv("WAREHOUSE_URI", uri)
    for command in (["plan", "it"], ["sync", "it"], ["show", "it"]):
        done = retl(*command, folder=pg.folder)
        assert (done.code, done.err) == (code, expected)
        assert "pass-w0rd" not in done.out + done.err
    assert expected.split("\n")[0].partition(": ")[2] in retl("debug", folder=pg.folder).out


def test_without_uri_the_variables_of_libpq_are_used(server: PostgresServer, pg: Shop, monkeypatch: pytest.MonkeyPatch):
    del pg.engine["uri"]
    for name, value in {
        **{"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "reader"},
        **{"PGPASSWORD": server.password, "PGDATABASE": "postgres"},
    }.items():
        monkeypatch.setenv(name, value)
    pg.sync("it", "SELECT current_user || current_setting('application_name') AS external_id")
    assert pg.run().status == "success"
    assert "readerretl" in pg.sent()[0]


def test_address_that_is_written_down_is_refused(pg: Shop, retl: Retl):
    pg.engine["uri"] = f"postgresql://reader:{PASSWORD}@127.0.0.1/postgres"
    pg.sync("it", USER)
    assert said(pg, retl) == (
        2,
        'syncs.yml:7:12: "uri" in target "test" must come from the environment\n'
        "  hint: write uri: \"{{ env_var('WAREHOUSE_URI') }}\"; change a password that is in it\n",
    )


def test_password_is_no_value_of_models(pg: Shop):
    pg.sync("it", "SELECT '{{ env_var(\"WAREHOUSE_URI\") }}' AS external_id")
    (problem,) = pg.run().errors
    assert problem.code == "P036"


def test_table_without_permission_is_named_with_the_grant(
    server: PostgresServer, pg: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    server.sql("DROP TABLE IF EXISTS secret", "CREATE TABLE secret (external_id text)")
    pg.sync("it", "SELECT *\nFROM secret")
    assert pg.run().exit_code == 2
    assert [str(one) for one in pg.run().errors] == [
        "models/it.sql: permission denied for table secret\n"
        "  hint: GRANT SELECT on it to the user of the warehouse, and USAGE on its schema"
    ]
    monkeypatch.setenv("WAREHOUSE_URI", pg.environ["WAREHOUSE_URI"])
    said = retl("debug", folder=pg.folder).out
    assert "FAIL  model of it: models/it.sql: permission denied for table secret\n" in said


def test_model_that_takes_too_long_is_ended(server: PostgresServer, pg: Shop):
    pg.engine["statement_timeout_s"] = 1
    pg.sync("it", SLOW)
    result = pg.run()
    assert (result.exit_code, [str(one) for one in result.errors]) == (
        1,
        ["models/it.sql: Postgres ended the model after 1 s\n"
         "  hint: make the model faster, or raise statement_timeout_s of the warehouse"],
    )  # fmt: skip
    assert (pg.sent(), server.sessions()) == ([], 0)


def streams(server: PostgresServer) -> Callable[[], bool]:
    return lambda: bool(server.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'reader' AND query LIKE 'COPY%'"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_query_in_postgres_too(number: int, server: PostgresServer, pg: Shop):
    pg.sync("it", SLOW)
    with start(pg, "sync", "it") as process:
        process.wait_until(streams(server))
        process.send_signal(number)
        assert process.wait() == 128 + number, process.err
    give_up_s = time.monotonic() + HANG_S
    while server.sessions() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert (server.sessions(), pg.sent()) == (0, [])
    assert "Traceback" not in process.err


def test_connection_that_is_lost_while_rows_come_ends_the_run_with_nothing_sent(server: PostgresServer, pg: Shop):
    pg.sync(
        "it",
        "SELECT 'u' || i AS external_id, repeat('x', 1000) AS x, pg_sleep(0.0001) IS NULL AS n FROM generate_series(1, 1000000) i",
    )
    with start(pg, "sync", "it") as process:
        process.wait_until(streams(server))
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
        assert process.wait() == 1, process.err
    assert process.err.endswith(
        "models/it.sql: the connection to Postgres was lost while the model was running [B004]\n"
        "  hint: nothing was sent: run it again when the database answers\n"
    ), process.err
    assert pg.sent() == []
    pg.sync("it", USER)
    assert pg.run().status == "success"


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been read of Postgres so far, by its first columns."""
    found = list[str]()
    stream = PostgresReader.stream

    def counted(self: PostgresReader, sql: str) -> Any:
        found.append(sql.partition("\n")[0])
        return stream(self, sql)

    monkeypatch.setattr(PostgresReader, "stream", counted)
    return found


ALL = 'SELECT __model."external_id" AS "external_id", __model."email" AS "email", __model."n" AS "n" FROM ('
PEOPLE = "SELECT 'u' || i AS external_id, 'p' || i || '@example.com' AS email, {} AS n FROM generate_series(1, {}) i"


def test_model_runs_once_in_a_run(pg: Shop, scans: list[str]):
    pg.sync("it", PEOPLE.format("i", 5))
    for changed, expected in (("i", 5), ("i", 0), ("i + 1", 5)):
        pg.sync("it", PEOPLE.format(changed, 5))
        scans.clear()
        assert (pg.run().plan.to_send, scans) == (expected, [ALL])


def test_model_without_rows_runs_once(pg: Shop, scans: list[str]):
    pg.sync("it", PEOPLE.format("i", 5))
    pg.run()
    pg.sync("it", PEOPLE.format("i", 0))
    scans.clear()
    result = pg.run()
    (problem,) = result.errors
    assert problem.message == "it: guard empty_model: the model returned no rows, but the state has 5"
    assert scans == [ALL]


def test_search_for_users_in_several_rows_reads_their_columns_only(pg: Shop, scans: list[str]):
    pg.sync("it", PEOPLE.format("i", 5), primary_key="email")
    pg.run()
    pg.sync("it", PEOPLE.format("i + i / 5", 5), primary_key="email")
    scans.clear()
    assert pg.run().plan.to_send == 1
    assert scans == [ALL, 'SELECT __model."external_id" AS "external_id", __model."email" AS "email" FROM (']


def test_data_tests_and_the_run_see_one_snapshot(server: PostgresServer, pg: Shop, monkeypatch: pytest.MonkeyPatch):
    server.sql(
        "DROP TABLE IF EXISTS seen", "CREATE TABLE seen AS SELECT 'u1' AS external_id", "GRANT SELECT ON seen TO reader"
    )
    stream, queries = PostgresReader.stream, list[str]()

    def inserted(self: PostgresReader, sql: str) -> Any:
        queries.append(sql)
        yield from stream(self, sql)
        server.sql(f"INSERT INTO seen VALUES ('u{len(queries) + 1}')")

    monkeypatch.setattr(PostgresReader, "stream", inserted)
    pg.sync("it", "SELECT * FROM seen", data_tests=[{"not_null": "external_id"}])
    result = pg.run()
    assert (result.plan.rows, len(queries), server.sql("SELECT count(*) FROM seen")) == (1, 2, [(3,)])


def test_duplicate_keys_are_found_in_an_unchanged_model(pg: Shop):
    pg.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM generate_series(1, 3) i")
    pg.run()
    pg.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM generate_series(1, 3) i UNION ALL SELECT 'u1', 1")
    (problem,) = pg.run().errors
    assert str(problem).startswith(
        'syncs.yml:13:3: it: primary_key "external_id" is not unique: 1 key occurs in 2 rows: '
    )


def test_two_writers_of_one_attribute_are_counted(pg: Shop):
    pg.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM generate_series(1, 3) i")
    pg.sync("other", "SELECT 'u' || i AS external_id, i + 1 AS n FROM generate_series(2, 9) i")
    (problem,) = pg.run("it").errors
    assert problem.code == "P096"
    assert "2 users" in str(problem)


def test_broken_model_of_another_sync_does_not_end_this_one(pg: Shop):
    pg.sync("it", "SELECT 'u1' AS external_id, 1 AS n")
    pg.sync("other", "SELECT 'u1' AS external_id, nothing AS n")
    assert pg.run("it").status == "success"


# --- text of models --------------------------------------------------------------------------------------------------


def test_models_and_sources_are_quoted_as_postgres_does(
    server: PostgresServer, pg: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WAREHOUSE_URI", server.uri("reader"))
    server.sql(
        'DROP SCHEMA IF EXISTS "App" CASCADE', 'CREATE SCHEMA "App"', 'GRANT USAGE ON SCHEMA "App" TO reader',
        """CREATE TABLE "App"."Orders" AS SELECT 'u1' AS external_id, 2 AS n""", 'GRANT SELECT ON "App"."Orders" TO reader',
    )  # fmt: skip
    pg.more = {"sources": {"app": {"schema": "App"}}}
    pg.model("orders", "SELECT * FROM {{ source('app', 'Orders') }}")
    pg.sync("it", "SELECT external_id, sum(n) AS n FROM {{ ref('orders') }} GROUP BY 1")
    assert pg.run().status == "success"
    assert retl("compile", "it", folder=pg.folder).out == (
        'WITH "__ref__orders" AS (\nSELECT * FROM "App"."Orders"\n)\nSELECT * FROM (\n'
        'SELECT external_id, sum(n) AS n FROM "__ref__orders" GROUP BY 1\n) AS __model\n\n'
    )
    assert retl("show", "it", folder=pg.folder).out.split() == ["external_id", "n", "u1", "2"]


def test_cursor_has_a_type_of_postgres(server: PostgresServer, pg: Shop):
    server.sql("DROP TABLE IF EXISTS visits", "CREATE TABLE visits (external_id text, n bigint, d date, t timestamp, z timestamptz)",
        "INSERT INTO visits SELECT 'u' || i, i, date '2024-01-01' + i, timestamp '2024-01-01' + i * interval '1 h', timestamptz '2024-01-01+00' + i * interval '1 h' FROM generate_series(1, 5) i",
        "GRANT SELECT ON visits TO reader")  # fmt: skip
    model = "SELECT external_id, {0} FROM visits {{% if is_incremental() %}}WHERE {0} > {{{{ cursor() }}}}{{% endif %}}"
    for cursor in ("n", "d", "t", "z"):
        pg.sync(
            cursor, model.format(cursor), incremental={"cursor": cursor}, primary_key="external_id", exclude_columns=[]
        )
        assert pg.run(cursor).plan.to_send == 5, cursor
    server.sql(
        "INSERT INTO visits SELECT 'v1', 6, date '2024-01-07', timestamp '2024-01-01 06:00', timestamptz '2024-01-01 06:00+00'"
    )
    server.sql(
        "INSERT INTO visits SELECT 'late', 1, date '2024-01-01', timestamp '2024-01-01 00:00', timestamptz '2024-01-01 00:00+00'"
    )
    for cursor in ("n", "d", "t", "z"):
        result = pg.run(cursor)
        assert (result.plan.rows, result.plan.to_send) == (2, 1), cursor


def test_seeds_are_for_dbt(pg: Shop, retl: Retl):
    (pg.folder / "seeds").mkdir()
    (pg.folder / "seeds/tiers.csv").write_text("external_id\nu1\n")
    pg.sync("it", "SELECT * FROM {{ ref('tiers') }}")
    expected = "load them with `dbt seed`, and add dbt: {project_dir: ...}"
    assert said(pg, retl, "seed") == (
        2,
        f'syncs.yml:6:7: retl loads seeds into DuckDB, and target "test" runs in Postgres\n  hint: {expected}\n',
    )
    assert said(pg, retl, "plan", "it")[1].startswith(
        'models/it.sql:1: ref(): "tiers" is a seed, and retl does not load seeds into Postgres\n'
    )


def test_unit_tests_run_a_translated_model_without_postgres(pg: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WAREHOUSE_URI", raising=False)
    pg.model("people", "SELECT external_id, upper(name) AS name, n FROM {{ source('app', 'people') }}")
    pg.sync("it", "SELECT external_id, name || '!' AS name, n + 1 AS n FROM {{ ref('people') }} WHERE name LIKE 'A%'")
    given = [{"input": "source('app', 'people')", "rows": [{"external_id": "u1", "name": "ann", "n": 5}]}]
    expect = {"records": [{"external_id": "u1", "name": "ANN!", "n": 6}]}
    pg.more = {"unit_tests": [{"name": "one", "sync": "it", "given": given, "expect": expect}]}
    pg.write()
    done = retl("test", folder=pg.folder)
    assert (done.code, done.out) == (0, "pass   one (it)\n"), done.err


def test_unit_test_of_a_model_that_only_postgres_can_run_is_an_error_and_the_others_run(pg: Shop, retl: Retl):
    source = "{{ source('app', 'people') }}"
    pg.sync("it", f"SELECT external_id,\n  round(n) AS n FROM {source}")
    pg.sync("other", f"SELECT external_id, n + 1 AS n FROM {source}")
    given = [{"input": "source('app', 'people')", "rows": [{"external_id": "u1", "n": 5}]}]
    tests = {"it": 5, "other": 6}
    pg.more = {
        "unit_tests": [
            {"name": f"of_{sync}", "sync": sync, "given": given, "expect": {"records": [{"external_id": "u1", "n": n}]}}
            for sync, n in tests.items()
        ]
    }
    pg.write()
    done = retl("test", folder=pg.folder)
    where = next(n for n, line in enumerate((pg.folder / "syncs.yml").read_text().splitlines(), 1) if "of_it" in line)
    assert done.code == 1
    assert done.out == (
        f"ERROR  of_it (it), syncs.yml:{where}:3\n"
        "      models/it.sql:2:3: postgres: function round() is not known here\n"
        "        hint: it needs Postgres: unit tests run in DuckDB, which is not known to do the same here\n"
        "pass   of_other (other)\n"
    )


def test_missing_package_is_named_with_the_command(pg: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    pg.sync("it", USER)
    result = pg.run()
    assert (result.exit_code, [str(one) for one in result.errors]) == (
        2,
        ["syncs.yml:7:12: a warehouse in Postgres needs a package that is not installed\n"
         '  hint: install it: `pip install "reverse-etl[postgres]"`'],
    )  # fmt: skip


def test_name_of_63_bytes_is_read_whole(pg: Shop):
    name = "n" * 63
    pg.sync("it", f"{USER}, array[1, 2] AS {name}")
    pg.run()
    assert sent(pg) == {name: [1, 2]}
