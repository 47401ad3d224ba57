"""How often folders are listed to find out what models may read; what they may read is in tests/engines/test_reach.py."""

import os
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.project import readable
from reverse_etl.project.readable import _entries_of

LONG_AGO = (1_700_000_000, 1_700_000_000)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed, each time that they were."""
    found: list[str] = []

    def noted(folder: str) -> Any:
        found.append(folder)
        return os_scandir(folder)

    os_scandir = os.scandir
    monkeypatch.setattr(readable.os, "scandir", noted)
    return found


def test_folder_is_listed_again_only_when_something_comes_or_goes(tmp_path: Path, listed: list[str]):
    (tmp_path / "orders.parquet").touch()
    os.utime(tmp_path, LONG_AGO)
    for _ in range(3):
        assert _entries_of(str(tmp_path), False).files == (str(tmp_path / "orders.parquet"),)
    assert listed == [str(tmp_path)]
    (tmp_path / "out").symlink_to("/etc")
    assert _entries_of(str(tmp_path), False).links == (str(tmp_path / "out"),)
    (tmp_path / "orders.parquet").unlink()
    assert _entries_of(str(tmp_path), False).files == ()


def test_folder_that_has_just_changed_is_listed_each_time(tmp_path: Path, listed: list[str]):
    """Its next change may have the same time."""
    (tmp_path / "orders.parquet").touch()
    for _ in range(3):
        _entries_of(str(tmp_path), False)
    assert listed == [str(tmp_path)] * 3


def test_what_begins_with_a_dot_is_private_at_the_top_only(tmp_path: Path):
    (tmp_path / ".hidden").mkdir()
    os.utime(tmp_path, LONG_AGO)
    assert (_entries_of(str(tmp_path), True).folders, _entries_of(str(tmp_path), True).has_private) == ((), True)
    assert _entries_of(str(tmp_path), False).folders == (str(tmp_path / ".hidden"),)
