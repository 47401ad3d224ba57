"""States that nobody has open are read without being opened; whatever else is to be done with one is still done."""

import duckdb
import pytest

from reverse_etl.state.copied import seen
from reverse_etl.state.glance import Glances
from reverse_etl.state.history import past_runs
from reverse_etl.state.look import statuses
from reverse_etl.state.opening import state_of
from reverse_etl.state.places import place_of
from tests.shop import Shop

PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(3) r(i)"


def test_state_that_nobody_uses_is_read_as_it_lies_there(shop: Shop):
    shop.sync("it", PEOPLE).run()
    project = shop.project()
    place = place_of(project, project.sync("it"))
    before = place.state.read_bytes()
    with Glances() as glances, glances.at(place) as seen:
        assert seen is not None
        assert seen.execute("SELECT count(*) FROM retl_state.main.state").fetchall() == [(3,)]
    assert place.state.read_bytes() == before
    assert [path.name for path in place.folder.iterdir() if path.suffix == ".wal"] == []


@pytest.mark.long
def test_state_that_is_in_use_damaged_or_of_an_older_format_is_not(shop: Shop):
    shop.sync("it", PEOPLE).run()
    project = shop.project()
    place = place_of(project, project.sync("it"))

    def is_read() -> bool:
        with Glances() as glances, glances.at(place) as seen:
            return seen is not None

    assert is_read()
    with state_of(project, project.sync("it")):
        assert not is_read()
    left = place.folder / "outbox.duckdb"
    left.touch()
    assert not is_read()
    left.unlink()
    with duckdb.connect(place.state) as state:
        state.execute("UPDATE meta SET value = '5' WHERE key = 'format'")
    assert not is_read()
    place.state.write_bytes(b"something else")
    assert not is_read()


def test_copy_is_read_in_a_duckdb_that_many_share_unless_that_has_spilled(shop: Shop):
    shop.sync("it", PEOPLE).run()
    project = shop.project()
    with Glances() as glances:
        with seen(project, project.sync("it"), glances) as state:
            known, is_shared = (state.key, dict(state.types)), state.connection is glances.connection
        assert is_shared
        glances.connection.execute("SET memory_limit = '30MB'")
        glances.connection.execute(f"SET temp_directory = '{shop.folder / 'spill'}'")
        glances.connection.execute("CREATE TEMP TABLE many AS SELECT i, hash(i) FROM range(3_000_000) r(i)")
        with seen(project, project.sync("it"), glances) as state:
            assert (state.key, dict(state.types)) == known
            assert state.connection is not glances.connection


@pytest.mark.long
def test_each_sync_has_its_own_status_and_history(shop: Shop):
    for number in range(3):
        shop.sync(f"it{number}", f"SELECT 's{number}-' || i AS external_id FROM range({number + 1}) r(i)")
    shop.run_all("it0", "it1", "it2")
    project = shop.project()
    assert [(one.sync, one.last_run, one.rows) for one in statuses(project, project.spec.syncs)] == [
        (f"it{number}", "success", number + 1) for number in range(3)
    ]
    assert [(run.sync, run.accepted) for run in past_runs(project, project.spec.syncs, 10)] == [
        (f"it{number}", number + 1) for number in range(3)
    ]
