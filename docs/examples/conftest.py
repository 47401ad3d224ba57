"""The demo shop in a folder of its own, and what the sandbox received, for `make test-orchestrators`."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).parents[2]


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def retl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "reverse_etl", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def sent(self) -> list[tuple[str, Any]]:
        """Path and body of each request about users that the local Braze took."""
        lines = self.retl("sandbox", "--last", "100").splitlines()
        of_users = [(head, body) for head, body in pairwise(lines) if head.startswith("/") and body.startswith("{")]
        return [(head.split()[0], json.loads(body)) for head, body in of_users if "/catalogs" not in head]

    def records(self, array: str) -> list[dict[str, Any]]:
        return [record for _, body in self.sent() for record in body.get(array, [])]

    def runs(self, sync: str) -> list[tuple[str, str]]:
        """Status and scheduled time of each run."""
        query = (
            "SELECT status, strftime(scheduled_time AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') FROM runs ORDER BY started_at"
        )
        with duckdb.connect(self.folder / ".retl/sandbox" / sync / "state.duckdb", read_only=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for part in ("models", "seeds"):
        shutil.copytree(ROOT / part, tmp_path / "shop" / part)
    shutil.copy(ROOT / "syncs.yml", tmp_path / "shop")
    made = Shop(tmp_path / "shop")
    made.retl("seed")
    made.retl("sync", "products", "--create-catalog")  # once for all, as people do
    monkeypatch.setenv("RETL_PROJECT", str(made.folder))
    monkeypatch.setenv("RETL_TARGET", "sandbox")
    return made
