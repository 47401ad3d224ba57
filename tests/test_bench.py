"""What `make bench` says of the commit before, and what it compares a plan with."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.run import BEFORE, Line, Measured, in_lockstep, own
from tests.processes import Forked, command
from tests.shop import KEY, Shop, start


def test_each_line_is_measured_with_the_code_of_both_commits_in_turns(tmp_path: Path):
    measured = list[Path]()

    def part() -> Iterator[Line]:
        for wall_s, cpu_s in ((1.0, 0.5), (3.0, 2.0)):
            measured.append(own("project"))
            slower = 2 if BEFORE.get() else 1
            yield Line("a run", Measured(wall_s=wall_s * slower, cpu_s=cpu_s * slower), 100, 1.0, "of it", 2.0)
        yield Line("a size", Measured(), 0, 4.0 if BEFORE.get() else 3.0)
        yield Line("what has no figure", Measured())

    lines = list(in_lockstep(part, tmp_path))
    assert [path == tmp_path / "project" for path in measured] == [False, True, False, True]
    assert [line.compared for line in lines] == ["0.50x wall, 0.50x CPU", "0.50x wall, 0.50x CPU", "0.75x", ""]
    assert list(lines[0].cells())[-2:] == ["met: at most 2x", "0.50x wall, 0.50x CPU"]
    assert own("project") != tmp_path / "project"


def unchecked(folder: Path, *arguments: str) -> None:
    import bench.unchecked  # noqa: F401 - in this process only

    command(folder, {**os.environ, "BRAZE_API_KEY": KEY}, *arguments)


@pytest.mark.long
def test_plan_without_rules_has_all_rows_and_columns(shop: Shop):
    sql = "SELECT i::VARCHAR AS external_id, 'nowhere' AS country, 'x' AS gender, i AS n FROM range(3) t(i)"
    shop.sync("it", sql, skip_on_invalid_records=True)
    checked = start(shop, "plan", "it", "--output", "json").communicate()[0]
    without = Forked(unchecked, shop.folder, "plan", "it", "--output", "json").communicate()[0]
    assert json.loads(checked)[0]["columns"] == {"n": 3}
    assert json.loads(without)[0]["columns"] == {"country": 3, "gender": 3, "n": 3}
