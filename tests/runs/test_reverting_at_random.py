"""Snapshot S, run R, later runs on other cells, revert R: profiles are those of S, whatever is killed meanwhile."""

import random
import re
from typing import Any

import pytest

from tests.shop import Retl, Shop, examples, running

COLUMNS = ("tier", "n", "tags", "address")
Rows = dict[str, dict[str, Any]]


def value(chance: random.Random, column: str) -> str:
    """SQL of a value; none of them is written in two ways."""
    some = {
        "tier": ["NULL", "'basic'", "'gold'", "'a ''quoted'' one'"],
        "n": ["NULL", "0", "-1", "2.5", "100000"],
        "tags": ["NULL", "['a']", "['a', 'b']", "['\u00e9']"],
        "address": ["NULL", "{'city': 'Seoul'}", "{'city': 'Paris'}"],
    }
    return chance.choice(some[column])


def model(rows: Rows) -> str:
    types = {"tier": "VARCHAR", "n": "DECIMAL(9, 1)", "tags": "VARCHAR[]", "address": "STRUCT(city VARCHAR)"}
    cells = ", ".join(f"CAST({{{name}}} AS {of}) AS {name}" for name, of in types.items())
    return " UNION ALL ".join(f"SELECT '{key}' AS external_id, {cells.format(**row)}" for key, row in rows.items())


def profiles(shop: Shop) -> Rows:
    return {one["external_id"]: one["custom_attributes"] for one in shop.braze.profiles()}


def planned(shop: Shop, retl: Retl, run: str) -> str | None:
    """Write the plan of a revert; its digest, or None if there is nothing left to revert."""
    found = retl("revert", run, "--pin", "--out", "revert.plan", folder=shop.folder)
    if found.code == 2 and "nothing to revert" in found.err:
        return None
    assert found.code == 0, found.err
    digest = re.search(r"its digest: (\w+)", found.err)
    assert digest
    return digest[1]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(examples(3, 100)))
def test_profiles_are_those_of_before_the_run(shop: Shop, retl: Retl, seed: int):
    chance = random.Random(seed)
    shop.destination = {"max_objects_per_request": 2}

    def run(rows: Rows) -> str:
        how = {"send": chance.choice(["changed_columns", "all_columns"]), "guards": {"max_removed": "100%"}}
        shop.sync("it", model(rows), on_removed="clear", **how)
        assert shop.run().status == "success"
        return str(shop.rows_of("(SELECT run_id FROM runs ORDER BY finished_at DESC LIMIT 1)", "run_id")[0][0])

    rows: Rows = {f"u{n}": {name: value(chance, name) for name in COLUMNS} for n in range(12)}
    run(rows)
    before = profiles(shop)
    changed = {key: dict(row) for key, row in rows.items()} | {
        f"v{n}": {name: value(chance, name) for name in COLUMNS} for n in range(3)
    }
    written = set()  # cells
    for key in chance.sample(sorted(rows), 8):
        for name in chance.sample(COLUMNS, chance.randint(1, 4)):
            changed[key][name] = value(chance, name)
            written.add((key, name))
    for key in chance.sample(sorted(rows), chance.randint(0, 2)):  # rows that leave the model, and are cleared
        del changed[key]
        written |= {(key, name) for name in COLUMNS}
    reverted = run(changed)
    for _ in range(2):  # later runs, on cells that the first has not written
        for key in chance.sample(sorted(rows.keys() & changed.keys()), 4):
            for name in COLUMNS:
                if (key, name) not in written:
                    changed[key][name] = value(chance, name)
        run(changed)
    expected = {
        key: {name: v for name, v in after.items() if (key, name) not in written and key in before}
        | {name: v for name, v in before.get(key, {}).items() if (key, name) in written}
        for key, after in profiles(shop).items()
    }
    while digest := planned(shop, retl, reverted):
        apply = ("apply", "revert.plan", "--digest", digest, "--threads", "1")
        left = [key for key, row in profiles(shop).items() if row != expected[key]]
        if left and chance.random() < 0.7:
            with running(shop, chance.choice(left), apply) as process:
                process.kill()
                process.wait()
        else:
            assert retl(*apply, folder=shop.folder).code == 0
    assert profiles(shop) == expected
    again = shop.run()
    assert (again.status, profiles(shop)) == ("success", expected)
