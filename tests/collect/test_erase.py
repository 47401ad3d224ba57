"""`retl forget` reaches what was collected."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.collect import erase
from reverse_etl.collect.erase import erase_collected
from reverse_etl.collect.erasing import drop_erasings, erasings
from reverse_etl.collect.keep import convert, maintenance
from reverse_etl.collect.parquet import UNFINISHED
from reverse_etl.errors import BusyError, StateError
from reverse_etl.project.collected import LOCK
from reverse_etl.system.clock import Clock
from reverse_etl.system.file_lock import locked
from tests.canary import KEY
from tests.collect.collectors import Running, collecting
from tests.collect.collectors import records as collected
from tests.collect.files import AT, COLLECT, keep, keep_log, line, records
from tests.shop import FakeClock, Retl, Shop, erased_from, start

ANN, BEN = {"external_id": "ann", "email": "ann@x.example"}, {"external_id": "ben", "email": "ben@x.example"}
LATER = AT + timedelta(hours=1)
PATH = "/postback/v3/event/postback/unsubscribes"
SEGMENT, NEXT = "20261129T211500", "20261129T211600"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "collected").mkdir()
    return tmp_path / "collected"


def quiet(text: str) -> None:
    pass


def forget(folder: Path, *texts: str, at: datetime = LATER) -> erase.Erased:
    return erase_collected(folder, texts or ["external_id:ann", "email:ann@x.example"], at, 0, Clock(), quiet)


def texts(*found: dict[str, Any]) -> list[str]:
    return sorted(map(json.dumps, found))


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# --- files ------------------------------------------------------------------------------------------------------------


def test_their_records_go_and_those_of_others_stay(folder: Path):
    keep(folder, ANN, BEN)
    keep(folder, {"email": "Ann@x.example"}, segments=(NEXT, NEXT))
    keep(folder, ANN, BEN, {"email": "ann@x.example"}, segments=(SEGMENT, NEXT))
    keep(folder, {"user": {"external_user_id": "ann"}}, table="currents")
    before = sorted(path.name for path in folder.rglob("*.parquet"))
    found = forget(folder)
    assert found.records == {"postback/unsubscribes": 4, "postback/currents": 1}
    assert (found.out_of_reach, found.is_pending) == ([], False)
    assert records(folder) == texts(BEN, BEN)
    assert records(folder, table="currents") == []
    assert sorted(path.name for path in folder.rglob("*.parquet")) == before
    assert b"ann" not in bytes_of(folder).replace(b"unsubscribes", b"").replace(b"channel", b"")


def test_order_time_and_ids_of_the_other_records_stay(folder: Path):
    path = keep(folder, BEN, ANN, {"external_id": "cat"})
    sql = f"SELECT record_id, time, epoch(received_at), record FROM '{path}'"
    with duckdb.connect() as connection:
        before = connection.execute(sql).fetchall()
        forget(folder)
        assert connection.execute(sql).fetchall() == [before[0], before[2]]
    assert oct(path.stat().st_mode)[-3:] == "600"


def test_record_that_came_after_the_erasure_stays(folder: Path):
    keep(folder, ANN, at=LATER)
    assert forget(folder).records["postback/unsubscribes"] == 0
    assert records(folder) == texts(ANN)


def test_file_without_their_records_is_not_rewritten(folder: Path):
    path = keep(folder, BEN)
    before = path.stat()
    forget(folder)
    now = path.stat()  # without the time of access: it was read
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def test_records_say_what_else_the_person_is_called(folder: Path):
    braze_id = {"user": {"user_id": "b1", "external_user_id": "ann"}, "properties": {"email_address": "new@x.example"}}
    keep(folder, braze_id, {"user": {"user_id": "b1"}}, {"email": "new@x.example"}, {"user": {"user_id": "b2"}})
    assert forget(folder, "external_id:ann").records["postback/unsubscribes"] == 3
    assert records(folder) == texts({"user": {"user_id": "b2"}})


def test_address_that_others_have_too_erases_nothing_of_theirs(folder: Path):
    keep(folder, ANN, {"external_id": "ben", "email": "ann@x.example"}, {"email": "ann@x.example"})
    found = forget(folder, "external_id:ann")
    assert found.records["postback/unsubscribes"] == 1
    assert records(folder) == texts({"external_id": "ben", "email": "ann@x.example"}, {"email": "ann@x.example"})


def test_records_that_only_mention_the_person_stay_and_are_named(folder: Path):
    keep(folder, {"external_id": "ben", "referred_by": "ann", "friend": "ann@x.example"}, {"external_id": "ben"})
    found = forget(folder)
    assert found.out_of_reach == [
        f"{folder}/postback/unsubscribes: 1 record of other users, or of nobody known, with a value of the person in "
        "friend, referred_by"
    ]
    assert len(records(folder)) == 2


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ('{"external_id":"\\u0061nn"}', "external_id:ann"),
        ('{"external_id":"a\\/b"}', "external_id:a/b"),
        ('{"external_id":"안나"}', "external_id:안나"),
        ('{"external_id":12}', "external_id:12"),
        ('{"external_id":"a.*+?(){}[]^$|b"}', "external_id:a.*+?(){}[]^$|b"),
        ('{"phone":"+49 (151) 555-00"}', "phone:4915155500"),
        ('{"email":"ANN+1@X.example"}', "email:ann+1@x.example"),
    ],
)
def test_record_is_found_however_it_is_written(folder: Path, text: str, identifier: str):
    keep(folder, text, BEN)
    assert forget(folder, identifier).records["postback/unsubscribes"] == 1
    assert records(folder) == texts(BEN)


def test_many_persons_are_erased_at_once(folder: Path):
    keep(folder, *({"external_id": f"u{n}"} for n in range(3000)))
    assert forget(folder, *(f"external_id:u{n}" for n in range(2999))).records["postback/unsubscribes"] == 2999
    assert records(folder) == texts({"external_id": "u2999"})


def test_folder_that_is_not_there_has_nothing(tmp_path: Path):
    assert forget(tmp_path / "collected").records == {}
    assert not (tmp_path / "collected").exists()


# --- without a collector ----------------------------------------------------------------------------------------------


def test_log_of_a_collector_that_ended_becomes_files_without_them(folder: Path):
    keep_log(folder, SEGMENT, line(ANN, BEN))
    keep_log(folder, NEXT, line(ANN), line({"external_id": "cat"}), '{"source": "post')
    found = forget(folder)
    assert (found.records, found.is_pending) == ({"postback/unsubscribes": 2}, False)
    assert records(folder) == texts(BEN, {"external_id": "cat"})
    assert list(folder.glob("log/*")) == list(folder.glob("erased/*")) == []


def test_damaged_lines_are_named(folder: Path):
    keep_log(folder, SEGMENT, line(BEN), '{"external_id": "ann"}\n')
    assert forget(folder).out_of_reach == [str(folder / f"log/{SEGMENT}.damaged")]


def test_damaged_file_is_an_error_with_the_way_out(folder: Path):
    keep(folder, ANN)
    (folder / f"postback/unsubscribes/{NEXT}-{NEXT}.parquet").write_text("PAR1")
    with pytest.raises(StateError) as raised:
        forget(folder)
    assert str(raised.value).partition("\n")[0] == (
        f"cannot erase from {folder}: InvalidInputException ({NEXT}-{NEXT}.parquet)"
    )
    (folder / f"postback/unsubscribes/{NEXT}-{NEXT}.parquet").unlink()
    assert forget(folder).records["postback/unsubscribes"] == 1


# --- beside a collector -----------------------------------------------------------------------------------------------


def test_open_segment_stays_and_the_collector_leaves_them_out(folder: Path):
    keep_log(folder, SEGMENT, line(ANN, BEN))
    keep_log(folder, NEXT, line(ANN), line(BEN), line(ANN, at=LATER + timedelta(minutes=1)))
    with locked(folder / LOCK, lambda holder: BusyError(str(holder))):
        found = forget(folder)
    assert (found.records, found.is_pending) == ({"postback/unsubscribes": 1}, True)
    assert records(folder) == texts(BEN)
    (announced,) = folder.glob("erased/*")
    assert oct(announced.stat().st_mode)[-3:] == "600"
    assert b"ann" not in announced.read_bytes()
    convert(folder, NEXT, quiet)
    assert records(folder) == texts(ANN, BEN, BEN)


def test_announcement_goes_when_no_record_can_come_any_more_that_is_older(folder: Path):
    with locked(folder / LOCK, lambda holder: BusyError(str(holder))):
        keep_log(folder, SEGMENT, line(ANN))
        forget(folder)
    drop_erasings(folder, LATER + timedelta(hours=1))
    assert len(erasings(folder)) == 1
    convert(folder, SEGMENT, quiet)
    drop_erasings(folder, LATER + timedelta(minutes=9))
    assert len(erasings(folder)) == 1
    drop_erasings(folder, LATER + timedelta(minutes=11))
    assert erasings(folder) == []


def test_damaged_announcement_stops_the_collector_from_making_files(folder: Path):
    """Rather than erasing nobody; the log has all records."""
    keep_log(folder, SEGMENT, line(ANN))
    (folder / "erased").mkdir()
    (folder / "erased/x.json").write_text("{")
    with pytest.raises(OSError, match=r"x\.json is damaged"):
        convert(folder, SEGMENT, quiet)
    assert records(folder) == []


def test_it_waits_for_whoever_rewrites_the_files_and_gives_up(folder: Path):
    keep(folder, ANN)
    clock, told = FakeClock(), list[str]()
    with maintenance(folder), pytest.raises(BusyError) as raised:
        erase_collected(folder, ["external_id:ann"], LATER, 0, clock, told.append)
    assert sum(clock.waits) == pytest.approx(60)
    assert told == [f"waiting up to 60 s: the files in {folder} are being rewritten by another process"]
    assert "run this again" in str(raised.value)
    assert forget(folder).records["postback/unsubscribes"] == 1


def test_collector_that_runs_leaves_out_what_it_has_not_made_files_of(tmp_path: Path):
    with collecting(tmp_path) as running:
        folder = tmp_path / "collected"
        running.post(ANN)
        running.post(BEN)
        found = forget(folder, at=datetime.now(UTC))
        assert (found.records, found.is_pending) == ({}, True)
        running.post({**ANN, "is": "back"})
        assert running.end() == 0
        assert texts(*collected(tmp_path)) == texts({**ANN, "is": "back"}, BEN)


# --- killed in the middle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", range(3))
def test_what_fails_in_the_middle_is_ended_by_doing_it_again(folder: Path, where: int):
    files = [keep(folder, ANN, BEN, segments=(f"20261129T21150{n}", f"20261129T21150{n}")) for n in range(3)]
    keep_log(folder, NEXT, line(ANN))
    in_the_way = files[where].with_name(f".{files[where].name}{UNFINISHED}")
    in_the_way.mkdir()
    with pytest.raises(StateError, match=f"cannot erase from {folder}: "):
        forget(folder)
    assert len(records(folder)) == 7 - where
    in_the_way.rmdir()
    forget(folder)
    assert records(folder) == texts(BEN, BEN, BEN)


@pytest.mark.long
def test_command_that_is_killed_in_the_middle_is_ended_by_running_it_again(reading: Shop, retl: Retl):
    inbox = reading.folder / "collected"
    files = [keep(inbox, ANN, BEN, segments=(f"20261129T2115{n}", f"20261129T2115{n}")) for n in range(10, 40)]
    before = files[0].stat().st_ino
    with start(reading, "forget", "ann", "--yes") as process:
        process.wait_until(lambda: files[0].stat().st_ino != before)
        process.kill()
        process.wait()
    assert retl("forget", "ann", "--yes", folder=reading.folder).code == 0
    assert records(inbox) == texts(*[BEN] * 30)
    assert list(inbox.glob("erased/*")) == []


@pytest.mark.long
@pytest.mark.parametrize("where", ["erased/*.json", "postback/*/.*"])
def test_command_that_is_killed_beside_a_collector_loses_nothing_of_others(reading: Shop, retl: Retl, where: str):
    """Killed when it has said whom to leave out, or while it rewrites a file; meanwhile both are collected, on and on."""
    inbox, ends, sent = reading.folder / "collected", threading.Event(), list[tuple[datetime, dict[str, Any]]]()

    def go_on(running: Running) -> None:
        for n in count():
            record = {"external_id": ("ann", "ben")[n % 2], "n": n}
            answer = running.session.post(f"{running.url}{PATH}", json=record, headers={"X-TD-Write-Key": KEY})
            assert answer.status_code == 200
            sent.append((datetime.now(UTC), record))
            if ends.wait(0.005):  # two hundred a second at most, which leaves time for whoever erases
                break

    with collecting(reading.folder, EVERY_S=0.05) as running, ThreadPoolExecutor(1) as sender:
        sending = sender.submit(go_on, running)
        running.process.wait_until(lambda: len(records(inbox)) > 10)
        with start(reading, "forget", "ann", "--yes") as process:
            process.wait_until(lambda: process.returncode is not None or any(inbox.glob(where)))
            process.kill()
            process.wait()
        said = retl("forget", "ann", "--yes", folder=reading.folder)
        ends.set()
        sending.result()
        assert running.end() == 0
    at = datetime.fromisoformat(json.loads(receipt_of(said.out).read_text())["at"])
    left = collected(reading.folder, "unsubscribes", "postback")
    assert sorted(one["n"] for one in left if one["external_id"] == "ben") == [
        record["n"] for _, record in sent if record["external_id"] == "ben"
    ]
    gone = [record for answered_at, record in sent if answered_at < at and record["external_id"] == "ann"]
    assert gone
    assert [one for one in gone if json.dumps(one) in records(inbox)] == []


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def reading(shop: Shop) -> Shop:
    shop.more = {"collect": COLLECT}
    return shop.sync("it", "SELECT external_id, email FROM {{ source('postback', 'unsubscribes') }}")


def receipt_of(out: str) -> Path:
    return Path(out.split("receipt: ")[1].strip())


def test_command_counts_them_and_the_receipt_too(reading: Shop, retl: Retl):
    inbox = reading.folder / "collected"
    keep(inbox, ANN, BEN)
    keep(inbox, {"email": "ann@x.example"}, {"external_id": "ben", "by": "ann"}, segments=(NEXT, NEXT))
    reading.sync(
        "it", "SELECT external_id, email FROM {{ source('postback', 'unsubscribes') }} WHERE external_id = 'ann'"
    )
    assert reading.run().status == "success"
    said = retl("forget", "ann", "--yes", folder=reading.folder)
    assert "deleted 2 collected records of postback/unsubscribes\n" in said.out
    assert "look there yourself: collected/postback/unsubscribes: 1 record of other users" in said.err
    assert json.loads(receipt_of(said.out).read_text())["collected"] == {"postback/unsubscribes": 2}
    checked = retl("forget", "--check", str(receipt_of(said.out)), folder=reading.folder)
    assert (checked.code, checked.out[:5]) == (0, "true:")


def test_check_finds_what_is_collected_about_the_person(reading: Shop, retl: Retl):
    keep(reading.folder / "collected", BEN)
    receipt = receipt_of(retl("forget", "ann", "--yes", folder=reading.folder).out)
    keep(reading.folder / "collected", ANN, BEN, segments=(NEXT, NEXT), at=AT - timedelta(days=9999))
    keep_log(reading.folder / "collected", NEXT, line(ANN, at=datetime(2020, 1, 1, tzinfo=UTC)))
    checked = retl("forget", "--check", str(receipt), folder=reading.folder)
    assert (checked.code, checked.out) == (
        1,
        "postback/unsubscribes: 2 collected records about a person who was erased\n",
    )


def test_receipt_from_before_anything_was_collected_is_read(reading: Shop, retl: Retl):
    said = retl("forget", "ann", "--yes", folder=reading.folder)
    assert erased_from(said) == {}
    assert json.loads(receipt_of(said.out).read_text())["collected"] == {}


@pytest.mark.long
def test_rows_of_the_person_are_suppressed_while_the_collector_still_has_records(reading: Shop, retl: Retl):
    keep(reading.folder / "collected", BEN)
    assert reading.run().status == "success"
    retl("forget", "ben", "--yes", folder=reading.folder)
    keep(reading.folder / "collected", BEN, segments=(NEXT, NEXT))
    sent = len(reading.sent())
    assert (reading.run().status, len(reading.sent())) == ("success", sent)
