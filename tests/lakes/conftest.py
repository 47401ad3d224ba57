"""Extensions of DuckDB, installed from PyPI into the home of the tests: nothing is downloaded."""

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from duckdb_extensions import import_extension

EXTENSIONS = ("icu", "httpfs", "ducklake", "sqlite_scanner")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the user, where DuckDB finds extensions and secrets."""
    folder, before = tmp_path_factory.mktemp("home"), os.environ["HOME"]
    os.environ["HOME"] = str(folder)
    with duckdb.connect() as connection:
        for extension in EXTENSIONS:
            import_extension(extension, con=connection)
    yield folder
    os.environ["HOME"] = before
