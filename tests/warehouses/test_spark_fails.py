"""Spark ends what it does for a run, or refuses it: each time a message that names what and where, and nothing is lost.

Slow statements are those of two ranges that are joined: they would take hours, and stop at once."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.engines.spark.tables import SparkTables
from reverse_etl.state.look import sync_status
from tests.processes import HANG_S
from tests.shop import Shop, start
from tests.warehouses.conftest import Sail, Warehouse, comparing
from tests.warehouses.one_catalog import one_catalog
from tests.warehouses.test_comparing import KEEPS, acknowledged, people, pointer, tables

SLOW = " UNION ALL SELECT CAST(a.id AS STRING), a.id FROM range(100000) a, range(100000) b, range(1000) c WHERE a.id + b.id = -1"


@pytest.fixture
def spark(shop: Shop, lasting: Sail, schema: str) -> Warehouse:
    comparing(shop, lasting, schema)
    found = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT external_id, n FROM {found.put('people', people())}", **KEEPS)
    assert shop.run().status == "success"
    return found


def is_whole_after(spark: Warehouse, lasting: Sail, schema: str) -> None:
    """Whatever has happened: the next runs send what has changed, once, and leave no other tables."""
    shop = spark.shop
    shop.sync("it", f"SELECT external_id, n FROM {spark.put('people', people(n=[1, 2, 30]))}", **KEEPS)
    before = len(shop.sent())
    assert [shop.run().plan.to_send, shop.run().plan.to_send] == [1, 0]
    assert len(shop.sent()) == before + 1
    assert [row[:2] for row in acknowledged(shop, lasting)] == [("u1", "1"), ("u2", "2"), ("u3", "30")]
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}


def slow(spark: Warehouse) -> None:
    shop = spark.shop
    shop.sync("it", (shop.folder / "models/it.sql").read_text() + SLOW, **KEEPS)


@pytest.mark.long
def test_statement_that_is_cancelled_in_spark_is_named(
    spark: Warehouse, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch
):
    """By another client of its session, as soon as it runs."""
    slow(spark)
    with cancelling(monkeypatch) as cancelled:
        (problem,) = spark.shop.run().errors
    assert cancelled.is_set()
    assert (problem.code, problem.message) == (
        "B005",
        "models/it.sql: Spark has cancelled the statement that the model was running in",
    )
    assert len(spark.shop.sent()) == 1
    is_whole_after(spark, lasting, schema)


@contextmanager
def cancelling(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Inside the block, the statement of a session that joins ranges is cancelled by another client of the session."""
    done, began = threading.Event(), threading.Event()
    readers, whole = list[SparkReader](), SparkReader.stream

    def watched(self: SparkReader, sql: str) -> Any:
        if "range(100000)" in sql:
            readers.append(self)
            began.set()
        return whole(self, sql)

    def cancel() -> None:
        began.wait()
        session = readers[0]._session
        from pyspark.sql.connect.session import SparkSession

        remote = f"{readers[0]._remote}/;session_id={session.client._session_id}"
        other = SparkSession.Builder().remote(remote).create()
        while not other.interruptAll():
            time.sleep(0.2)
        done.set()

    monkeypatch.setattr(SparkReader, "stream", watched)
    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield done
    finally:
        began.set()
        thread.join(HANG_S)


@pytest.mark.long
def test_signal_amid_the_comparison_ends_it_in_spark(spark: Warehouse, lasting: Sail, schema: str):
    """Exit code 130, nothing is sent, and Spark has no statement of the session left."""
    slow(spark)
    shop = spark.shop
    with one_catalog(lasting.address) as server:
        shop.engine["remote"] = server.address
        shop.write()
        with start(shop, "sync", "it") as process:
            process.wait_until(lambda: server.running("range(100000)") > 0)
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130, process.err
        give_up_s = time.monotonic() + HANG_S
        while server.running("range(100000)"):
            assert time.monotonic() < give_up_s, "the statement goes on"
    assert ("Traceback" in process.err, len(shop.sent())) == (False, 1)
    shop.engine["remote"] = lasting.address
    shop.write()
    is_whole_after(spark, lasting, schema)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Inside the block, no table can be made in a schema: its folder is a file, which stops root as well."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


@pytest.mark.long
def test_schema_that_refuses_tables_stops_a_first_run(shop: Shop, lasting: Sail, schema: str, tmp_path: Path):
    comparing(shop, lasting, schema)
    spark = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT external_id, n FROM {spark.put('people', people())}", **KEEPS)
    (tmp_path / "schema").mkdir(exist_ok=True)
    with refusing(tmp_path / "schema"):
        (problem,) = shop.run().errors
    assert (problem.code, str(problem.location)) == ("P147", "syncs.yml:9:21")
    assert problem.hint == f"create the schema {schema}, and let the user of retl create, read and drop tables in it"
    assert shop.sent() == []
    assert shop.run().plan.to_send == 3
    is_whole_after(spark, lasting, schema)


@pytest.mark.long
def test_what_was_sent_is_recorded_when_the_schema_takes_tables_again(
    spark: Warehouse, lasting: Sail, schema: str, tmp_path: Path
):
    """The permission is gone between the request and the end of the run."""
    shop = spark.shop
    shop.sync("it", f"SELECT external_id, n FROM {spark.put('people', people(n=[1, 20, 3]))}", **KEEPS)
    with refusing_once_sent(shop, tmp_path / "schema"):
        (problem,) = shop.run().errors
        assert problem.code == "S041"
        assert problem.message.endswith(": what its last run has sent is in the journal, not recorded yet")
        project = shop.project()
        assert sync_status(project, project.sync("it")).last_run == "unreachable"
    sent = len(shop.sent())
    assert (shop.run().plan.to_send, len(shop.sent())) == (0, sent)
    is_whole_after_n(shop, lasting)


def is_whole_after_n(shop: Shop, lasting: Sail) -> None:
    assert [row[:2] for row in acknowledged(shop, lasting)] == [("u1", "1"), ("u2", "20"), ("u3", "3")]


@contextmanager
def refusing_once_sent(shop: Shop, folder: Path) -> Iterator[None]:
    """Inside the block, no table can be made once a run wants to write what it has sent."""
    whole, stack = SparkTables.write, list[Any]()

    def refused(self: SparkTables, *arguments: Any) -> None:
        if not stack:
            stack.append(refusing(folder))
            stack[0].__enter__()
        whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparkTables, "write", refused)
        yield
    stack[0].__exit__(None, None, None)


class Cable:
    """A way to a server that can be cut: it listens on a port of its own, and passes on all bytes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("sc://").partition(":")
        self._to, self._ends = (host, int(port)), list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"sc://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while some := one.recv(65536):
                other.sendall(some)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for one in (self._listener, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.long
def test_server_that_goes_away_amid_the_comparison_is_named(
    spark: Warehouse, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch
):
    slow(spark)
    shop, cable = spark.shop, Cable(lasting.address)
    shop.engine["remote"] = cable.address
    shop.write()
    monkeypatch.setattr("reverse_etl.engines.spark.reader._TRIES", 2)
    readers, whole = list[Any](), SparkReader.stream

    def cutting(self: SparkReader, sql: str) -> Any:
        if "range(100000)" in sql:
            readers.append(self._session.client._session_id)
            threading.Timer(1, cable.cut).start()
        return whole(self, sql)

    with monkeypatch.context() as patch:
        patch.setattr(SparkReader, "stream", cutting)
        (problem,) = shop.run().errors
    assert (problem.code, problem.message) == (
        "B004",
        "models/it.sql: the connection to Spark was lost while the model was running",
    )
    (again,) = shop.run().errors
    assert (again.code, again.message.startswith("cannot connect to Spark at 127.0.0.1:")) == ("B004", True)
    assert len(shop.sent()) == 1
    interrupt(lasting, readers[0])
    shop.engine["remote"] = lasting.address
    shop.write()
    is_whole_after(spark, lasting, schema)


def interrupt(server: Sail, session_id: str) -> None:
    """What nobody waits for any more would run for minutes."""
    from pyspark.sql.connect.session import SparkSession

    other = SparkSession.Builder().remote(f"{server.address}/;session_id={session_id}").create()
    other.interruptAll()
    with suppress(Exception):
        other.stop()


@pytest.mark.long
def test_server_that_goes_away_before_a_run_is_recorded_loses_nothing(
    spark: Warehouse, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch
):
    shop, cable = spark.shop, Cable(lasting.address)
    shop.sync("it", f"SELECT external_id, n FROM {spark.put('people', people(n=[1, 20, 3]))}", **KEEPS)
    shop.engine["remote"] = cable.address
    shop.write()
    monkeypatch.setattr("reverse_etl.engines.spark.reader._TRIES", 2)
    whole = SparkTables.write

    def cut(self: SparkTables, *arguments: Any) -> None:
        cable.cut()
        whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SparkTables, "write", cut)
        (problem,) = shop.run().errors
    assert problem.code == "S041"
    assert json.loads(shop.sent()[-1])["attributes"] == [{"external_id": "u2", "n": 20}]
    sent = len(shop.sent())
    shop.engine["remote"] = lasting.address
    shop.write()
    assert (shop.run().plan.to_send, len(shop.sent())) == (0, sent)
    is_whole_after_n(shop, lasting)
