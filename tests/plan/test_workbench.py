"""Connections to the workbench, some of which are made before they are needed."""

from pathlib import Path

import duckdb
import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import connect, connect_ahead, drop_ahead


def settings(connection: duckdb.DuckDBPyConnection) -> list[object]:
    names = ("TimeZone", "memory_limit", "temp_directory", "allowed_directories")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    return list(connection.execute(f"SELECT {asked}").fetchall()[0])


def test_connection_made_ahead_is_like_any_other(tmp_path: Path):
    with connect(tmp_path, "512MB") as connection:
        asked = settings(connection)
    connect_ahead()
    connect_ahead()  # which is the same one
    with connect(tmp_path, "512MB") as ahead, connect(tmp_path, "512MB") as another:
        assert settings(ahead) == settings(another) == asked
        ahead.execute("CREATE TABLE its_own AS SELECT 1")
        with pytest.raises(duckdb.CatalogException):
            another.execute("FROM its_own")


def test_connection_made_ahead_is_closed_if_nobody_needs_it():
    connect_ahead()
    drop_ahead()
    drop_ahead()
    with connect() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("is_ahead", [False, True], ids=["made now", "made ahead"])
def test_what_is_no_size_is_refused(is_ahead: bool):
    if is_ahead:
        connect_ahead()
    with pytest.raises(ProjectError, match='--memory-limit: "much" is not a valid size'):
        connect(memory_limit="much")
