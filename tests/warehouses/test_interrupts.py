"""A signal ends a command as a signal, whatever was running when it arrived."""

import signal
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import duckdb
import pyarrow
import pytest

from reverse_etl.runs.interrupts import Interrupted, Interrupts
from reverse_etl.system.signals import interruptible

SCHEMA = pyarrow.schema([("n", pyarrow.int64())])


class Signaled:
    """Rows that DuckDB reads, between which a signal arrives."""

    def __arrow_c_schema__(self) -> object:
        return SCHEMA.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pyarrow.RecordBatchReader.from_batches(SCHEMA, self._batches()).__arrow_c_stream__()

    def _batches(self) -> Iterator[Any]:
        yield pyarrow.record_batch({"n": [1]}, schema=SCHEMA)
        signal.raise_signal(signal.SIGINT)
        yield pyarrow.record_batch({"n": [2]}, schema=SCHEMA)


def read(interrupts: Interrupts, threads: int, is_interruptible: bool) -> None:
    connection = duckdb.connect(config={"threads": threads})
    connection.register("rows_of_a_warehouse", Signaled())
    with interrupts.planning(), interruptible(connection) if is_interruptible else nullcontext():
        connection.execute("CREATE TABLE taken AS FROM rows_of_a_warehouse")


@pytest.mark.parametrize("is_interruptible", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_signal_that_arrives_while_duckdb_reads_rows_from_python_is_not_taken_for_an_error(
    threads: int, is_interruptible: bool
):
    """DuckDB makes an InterruptException or an InvalidInputException of what the handler raises inside."""
    interrupts = Interrupts()
    with interrupts.taken(), pytest.raises(Interrupted):
        read(interrupts, threads, is_interruptible)
    assert interrupts.exit_code == 130


def end_a_statement(interrupts: Interrupts) -> None:
    with interrupts.taken():
        interrupts.under_way = 1  # then the handler raises nothing
        signal.raise_signal(signal.SIGINT)
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")


def test_statement_that_a_signal_ends_is_not_taken_for_an_error():
    with pytest.raises(Interrupted):
        end_a_statement(Interrupts())


def plan_two(interrupts: Interrupts) -> None:
    with interrupts.taken():
        interrupts.under_way = 1
        with suppress(Interrupted), interrupts.planning():
            signal.raise_signal(signal.SIGINT)
        raise ValueError("of its own")


def test_error_of_a_later_sync_is_not_taken_for_a_signal_that_ended_the_planning_of_another():
    with pytest.raises(ValueError, match="of its own"):
        plan_two(Interrupts())
