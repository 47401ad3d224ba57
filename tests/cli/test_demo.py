"""The demo shop at the top of the repository."""

import shutil
from pathlib import Path

import pytest

from tests.shop import Retl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop_folder(tmp_path: Path, retl: Retl) -> Path:
    for part in ("models", "seeds"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "syncs.yml", tmp_path)
    assert retl("seed").code == 0
    return tmp_path


def test_demo_has_all_seven_kinds_of_sync_and_all_of_them_work(retl: Retl, shop_folder: Path):
    first = retl("sync", "--all")
    assert first.code == 0
    assert sorted({line.split(" accepted")[0] for line in first.out.splitlines()}) == [
        "erasures: success, 1 of 1 row",
        "newsletter: success, 9 of 9 rows",
        "orders: success, 7 of 7 rows",
        "page_views: success, 6 of 6 rows",
        "preferences: success, 9 of 9 rows",
        "signups: success, 3 of 3 rows",
        "users_track: success, 9 of 9 rows",
        "web_visitors: success, 5 of 5 rows",
    ]
    modes = {line.split()[1] + line.split()[3] for line in retl("ls").out.splitlines()[1:] if " / " in line}
    modes |= {line.split()[1] for line in retl("ls").out.splitlines()[1:] if " / " not in line}
    assert len(modes) == 7
    again = retl("sync", "--all")
    assert all("nothing to send, 0 requests" in line for line in again.out.splitlines())
    assert len(again.out.splitlines()) == 8


def test_production_target_is_not_asked_for_its_secrets(retl: Retl, shop_folder: Path):
    assert retl("plan").code == 0
    outcome = retl("plan", "--target", "prod")
    assert outcome.code == 2
    assert [line for line in outcome.err.splitlines() if not line.startswith("  hint")] == [
        'syncs.yml:11:37: environment variable "WAREHOUSE_PATH" is not set',
        'syncs.yml:14:17: environment variable "BRAZE_REST_ENDPOINT" is not set',
    ]
