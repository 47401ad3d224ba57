"""The demo shop at the top of the repository."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shop import Retl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop_folder(tmp_path: Path, retl: Retl) -> Path:
    for part in ("models", "seeds"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "syncs.yml", tmp_path)
    assert retl("seed").code == 0
    return tmp_path


@pytest.mark.long
def test_demo_has_eight_kinds_of_sync_which_work_and_unit_tests_make_the_same_records(retl: Retl, shop_folder: Path):
    first = retl("sync", "--all", "--create-catalog")
    first_results = json.loads((shop_folder / "target/run_results.json").read_text())["results"]
    assert first.code == 0
    assert sorted({line.split(" accepted")[0] for line in first.out.splitlines()}) == [
        "erasures: success, 1 of 1 row",
        "newsletter: success, 9 of 9 rows",
        "orders: success, 7 of 7 rows",
        "page_views: success, 6 of 6 rows",
        "preferences: success, 9 of 9 rows",
        "products: success, 4 of 4 rows",
        "signups: success, 3 of 3 rows",
        "users_track: success, 9 of 9 rows",
        "web_visitors: success, 5 of 5 rows",
    ]
    modes = {line.split()[1] + line.split()[3] for line in retl("ls").out.splitlines()[1:] if " / " in line}
    modes |= {line.split()[1] for line in retl("ls").out.splitlines()[1:] if " / " not in line}
    assert len(modes) == 8
    again = retl("sync", "--all")
    assert all("nothing to send, 0 requests" in line for line in again.out.splitlines())
    assert len(again.out.splitlines()) == 9
    syncs = write_unit_tests(shop_folder, first_results, bodies_of(retl("sandbox", "--last", "99").out))
    passed = [line for line in retl("test").out.splitlines() if line.startswith(("pass", "FAIL"))]
    assert passed == [f"pass   t{number} ({name})" for number, name in enumerate(syncs, 1)]


def bodies_of(shown: str) -> list[str]:
    """The bodies of the requests that the sandbox shows, without those that read or create a catalog."""
    requests = pairwise(shown.splitlines())
    return [body for request, body in requests if re.match(r"(PUT )?/(?!catalogs )", request)]


def write_unit_tests(folder: Path, results: list[dict[str, Any]], bodies: list[str]) -> list[str]:
    """A unit test goes the way of a run: one for each sync over the same seeds, which expects what the sandbox was sent.

    Returns the names of their syncs.
    """
    spec = yaml.safe_load((folder / "syncs.yml").read_text())
    answered = iter(bodies)
    requests_of = {
        result["sync"]: [json.loads(next(answered)) for _ in range(result["delivery"]["requests"])]
        for result in results
    }
    tests = []
    for number, sync in enumerate(spec["syncs"], 1):
        requests = requests_of[sync["name"]]
        if sync["mode"] == "users_delete":
            records = requests
        else:
            records = [record for request in requests for (array,) in [request.values()] for record in array]
        if sync["name"] == "newsletter":  # those of one group share an object of the request; each row makes one
            records = [{**group, "emails": [email]} for group in records for email in group["emails"]]
        compiled = (folder / f"target/compiled/{sync['model']}.sql").read_text()
        seeds = [path.stem for path in (folder / "seeds").glob("*.csv") if f'"{path.stem}"' in compiled]
        inputs = [{"input": f"ref('{seed}')"} for seed in seeds]
        tests.append({"name": f"t{number}", "sync": sync["name"], "given": inputs, "expect": {"records": records}})
    (folder / "syncs.yml").write_text(yaml.safe_dump({**spec, "unit_tests": tests}))
    return [sync["name"] for sync in spec["syncs"]]


def test_production_target_is_not_asked_for_its_secrets(retl: Retl, shop_folder: Path):
    assert retl("plan", "erasures").code == 0
    outcome = retl("plan", "--target", "prod")
    assert outcome.code == 2
    assert [line for line in outcome.err.splitlines() if not line.startswith("  hint")] == [
        'syncs.yml:11:37: environment variable "WAREHOUSE_PATH" is not set',
        'syncs.yml:14:17: environment variable "BRAZE_REST_ENDPOINT" is not set',
    ]
