"""Erasing a person from all that the syncs of a target remember, and proving it."""

import hmac
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from reverse_etl.errors import StateError
from reverse_etl.runs.forgetting import Forgetting, asked_for, check, forget
from reverse_etl.sandbox import Fault
from tests.bucket import Bucket
from tests.shop import Held, Retl, Shop, database, erased_from, running, some

GONE = {"mode": "users_delete", "allow_destructive": True}
GROUP = "11111111-1111-1111-1111-111111111111"
OF_ALL = "FROM range(1, 6) r(i)"
SIX = {
    "people": (
        f"""SELECT 'member-' || i AS external_id, 'mail-' || i || '@x.example' AS email,
        '+4915155500' || i AS phone, DATE '1990-01-01' AS dob {OF_ALL}""",
        {},
    ),
    "aliases": (
        f"SELECT 'nick-' || i AS alias_name, 'shop' AS alias_label, 'member-' || i AS external_id {OF_ALL}",
        {"mode": "users_alias_new"},
    ),
    "visits": (f"SELECT 'nick-' || i AS alias_name, 'shop' AS alias_label, i AS visits {OF_ALL}", {}),
    "orders": (
        f"""SELECT 'o' || i AS order_id, 'member-' || i AS external_id, 'ordered' AS name,
        TIMESTAMP '2026-11-23' AS time {OF_ALL}""",
        {"mode": "users_track", "track_record_type": "events"},
    ),
    "logins": (
        f"SELECT 'mail-' || i || '@x.example' AS email, 'login' AS name, TIMESTAMP '2026-11-23' AS time {OF_ALL}",
        {"mode": "users_track", "track_record_type": "events"},
    ),
    "news": (
        f"""SELECT '{GROUP}' AS subscription_group_id, 'mail-' || i || '@x.example' AS email,
        'subscribed' AS subscription_state {OF_ALL}""",
        {"mode": "subscription_status_set"},
    ),
}
NAMES = ("member-3", "nick-3", "mail-3@x.example", "49151555003")
ONE_EACH = dict.fromkeys(SIX, (1, 0, 0))


def six(shop: Shop) -> Shop:
    for name, (sql, options) in SIX.items():
        shop.sync(name, sql, **options)
    return shop


def text_in(path: Path) -> str:
    """All that is in a file: its bytes; and of a database, whose strings may be compressed, all values."""
    found = [path.read_bytes().decode("utf-8", "replace")]
    if path.suffix == ".duckdb":
        with database(path, "READ_ONLY") as connection:
            tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
            for (table,) in connection.execute(tables).fetchall():
                found.append(str(connection.execute(f'SELECT * FROM "{table}"').fetchall()))
    return "\n".join(found)


def files_about(folder: Path, names: tuple[str, ...] = NAMES) -> set[str]:
    """The files in which one of the names occurs."""
    files = {path: text_in(path) for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)) for path, text in files.items() if any(name in text for name in names)}


def receipt_of(out: str, folder: Path) -> Path:
    return folder / out.rpartition("receipt: ")[2].strip()


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "key_in_prod"),
    some([("nick-3", "+49 151 555003"), ("member-3", "Mail-3@x.example"), ("Mail-3@x.example", "nick-3")], every=3),
)
def test_person_known_by_id_alias_and_email_is_erased_from_six_syncs_and_two_targets(
    shop: Shop, retl: Retl, key: str, key_in_prod: str
):
    six(shop).run_all(*SIX)
    spec = yaml.safe_load((shop.folder / "syncs.yml").read_text())
    spec["targets"]["prod"] = spec["targets"]["test"]
    (shop.folder / "syncs.yml").write_text(yaml.safe_dump(spec, sort_keys=False))
    assert retl("sync", *SIX, "--target", "prod", folder=shop.folder).code == 0
    assert retl("plan", "--out", "plan.retl", "--full-refresh", folder=shop.folder).code == 0
    places = {f"{target}/{name}/state.duckdb" for target in ("test", "prod") for name in SIX}
    assert files_about(shop.folder / ".retl") == places
    first = retl("forget", key, "--yes", folder=shop.folder)
    assert erased_from(first) == ONE_EACH
    assert "deleted plan.retl\n" in first.out
    assert "other targets have states of their own: run this with --target prod\n" in first.err
    assert files_about(shop.folder / ".retl") == {place for place in places if place.startswith("prod/")}
    second = retl("forget", key_in_prod, "--target", "prod", "--delete-in-braze", "--yes", folder=shop.folder)
    assert erased_from(second) == ONE_EACH
    assert files_about(shop.folder) == set()
    assert "member-3" not in {profile.get("external_id") for profile in shop.braze.profiles()}
    # The models still return the person: nothing is sent any more, and nothing is kept.
    before = len(shop.sent())
    for target in ("test", "prod"):
        again = retl("sync", *SIX, "--target", target, folder=shop.folder)
        assert (again.code, again.out.count("1 suppressed: the user was erased")) == (0, 6)
    assert shop.sent()[before:] == []
    assert files_about(shop.folder / ".retl") == set()
    for said, target in ((first, "test"), (second, "prod")):
        receipt = receipt_of(said.out, shop.folder)
        kinds = [one["kind"] for one in json.loads(receipt.read_text())["identifiers"]]
        assert kinds == ["email", "external_id", "phone", "user_alias"]
        true = retl("forget", "--check", str(receipt), "--target", target, folder=shop.folder)
        assert (true.code, true.out) == (
            0,
            f"true: of email, external_id, phone, user_alias: no state of target {target} has one of them, "
            "and no sync sends them\n",
        )


@pytest.mark.long
def test_user_whom_a_sync_has_deleted_is_not_sent_again_whatever_changes(shop: Shop, retl: Retl):
    six(shop).sync("gone", "SELECT 'member-3' AS external_id UNION ALL SELECT 'member-4'", **GONE)
    shop.run_all(*SIX, "gone")
    before = len(shop.sent())
    shop.sync("people", SIX["people"][0].replace("1990", "1991"))
    people, orders, again = shop.run_all("people", "orders", "gone")
    assert (people.status, people.exit_code) == ("success", 0)
    assert (people.plan.suppressed, people.plan.changed, people.delivery.accepted) == (2, 3, 3)
    assert (orders.plan.suppressed, orders.delivery.requests) == (2, 0)
    assert (again.plan.unchanged, again.plan.to_send, again.plan.in_state) == (2, 0, 2)
    assert not any(name in body for body in shop.sent()[before:] for name in ("member-3", "member-4"))
    assert files_about(shop.folder / ".retl/test/gone", ("member-3", "member-4")) == set()
    assert files_about(shop.folder / ".retl/test/people", ("member-3", "mail-3@x.example")) == set()
    assert retl("forget", "member-3", "--allow", "--yes", folder=shop.folder).out == (
        "allowed again on target test: external_id\n"
    )
    assert shop.run("people").delivery.accepted == 1
    # Who leaves the list and returns is deleted again.
    shop.sync("gone", "SELECT 'member-4' AS external_id", **GONE).run("gone")
    shop.sync("gone", "SELECT 'member-3' AS external_id UNION ALL SELECT 'member-4'", **GONE)
    assert shop.run("gone").delivery.accepted == 1
    assert shop.run("people").plan.suppressed == 2


@pytest.mark.long
def test_deleting_what_left_a_model_erases_too_and_suppresses_false_switches_it_off(shop: Shop):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 6) r(i)")
    shop.sync("other", "SELECT 'member-' || i AS external_id, i AS m FROM range(1, 6) r(i)")
    shop.run_all("it", "other")
    leaves = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 5) r(i)", **leaves, suppresses=False)
    shop.run("it")
    assert shop.run("other").plan.suppressed == 0
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)", **leaves)
    shop.run("it")
    assert shop.run("other").plan.suppressed == 1
    assert files_about(shop.folder / ".retl", ("member-4",)) == set()
    assert shop.rows_of("state", "external_id", sync="other") == [(f"member-{i}",) for i in (1, 2, 3, 5)]


def test_hash_is_the_hmac_of_the_text_of_an_identifier(shop: Shop):
    shop.sync("gone", "SELECT 'an' AS alias_name, 'shop' AS alias_label, NULL AS external_id", **GONE).run()
    folder = shop.folder / ".retl/test/.erased"
    key = bytes.fromhex((folder / "key").read_text())
    expected = hmac.new(key, b"user_alias:shop\x1fan", "sha256").hexdigest()[:32]
    assert [path.read_text()[8:40] for path in folder.glob("erased-*")] == [expected]
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0, 0]


@pytest.mark.long
def test_email_suppresses_rows_without_another_identifier_and_no_other_person_of_that_address(shop: Shop, retl: Retl):
    family = "SELECT 'member-' || i AS external_id, 'home@x.example' AS email FROM range(1, 3) r(i)"
    mine = "SELECT 'member-1' AS external_id, 'own@x.example' AS email, 1 AS n"
    shop.sync("people", family, shares=["email"]).sync("mine", mine, shares=["email"])
    shop.sync("news", f"SELECT '{GROUP}' AS subscription_group_id, address || '@x.example' AS email, "
              "'subscribed' AS subscription_state FROM (VALUES ('own'), ('home')) r(address)",
              mode="subscription_status_set")  # fmt: skip
    shop.run_all("people", "mine", "news")
    several = retl("forget", "home@x.example", "--yes", folder=shop.folder)
    assert (several.code, several.err) == (
        1,
        '"***" is of 2 users\n  hint: name one of them by its id: `retl forget ID`\n',
    )
    said = retl("forget", "member-1", "--yes", folder=shop.folder)
    assert erased_from(said) == {"people": (1, 0, 0), "mine": (1, 0, 0), "news": (1, 0, 0)}
    assert "another user has the same email: rows that are identified by it alone stay\n" in said.err
    people, _, news = shop.run_all("people", "mine", "news")
    assert (people.plan.suppressed, news.plan.suppressed) == (1, 1)
    assert shop.rows_of("state", "email", sync="news") == [("home@x.example",)]
    assert shop.rows_of("state", "external_id", sync="people") == [("member-2",)]


@pytest.mark.long
def test_deletion_that_a_killed_process_did_not_record_is_recorded_when_the_sync_is_next_opened(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 6) r(i)")
    shop.run("it")
    shop.sync("gone", "SELECT 'member-3' AS external_id", **GONE)
    with running(shop, Held(shop.braze), ("sync", "gone")) as process:
        process.kill()
        process.wait()
    assert retl("status", folder=shop.folder).code == 0
    assert shop.run("it").plan.suppressed == 1
    assert shop.run("gone").delivery.accepted == 1  # its response is unknown: it is asked for again


@pytest.mark.long
@pytest.mark.parametrize("store", [False, True], ids=["folder", "store"])
def test_who_was_erased_stays_erased_when_the_target_gets_another_name(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, store: bool
):
    with Bucket() if store else nullcontext() as bucket:
        if bucket:
            shop.environ |= bucket.environ
            shop.state = {"path": bucket.url}
        shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)")
        shop.sync("gone", "SELECT 'member-3' AS external_id", **GONE)
        shop.run_all("it", "gone")
        shop.run_all("gone")
        spec = yaml.safe_load((shop.folder / "syncs.yml").read_text())
        spec["targets"] = {"prod": {**spec["targets"]["test"], "renamed_from": "test"}}
        spec["default_target"] = "prod"
        (shop.folder / "syncs.yml").write_text(yaml.safe_dump(spec, sort_keys=False))
        for name, value in shop.environ.items():
            monkeypatch.setenv(name, value)
        sent = len(shop.sent())
        for options in ((), ("--full-refresh", "--yes")):
            said = retl("sync", "it", *options, folder=shop.folder)
            assert (said.code, "1 suppressed: the user was erased" in said.out) == (0, True), said
        assert "member-3" not in "".join(shop.sent()[sent:])
        said = retl("forget", "member-2", "--yes", folder=shop.folder)
        assert said.code == 0, said.err
        said = retl("sync", "it", "--full-refresh", "--yes", folder=shop.folder)
        assert "2 suppressed: the user was erased" in said.out


@pytest.mark.parametrize("name", [".erased", ".erased/key"])
def test_hashes_are_not_written_through_a_link(shop: Shop, retl: Retl, tmp_path: Path, name: str):
    outside = tmp_path / "outside"
    outside.mkdir() if name == ".erased" else outside.write_text("precious")
    shop.sync("it", "SELECT 'member-1' AS external_id, 1 AS n").run()
    link = shop.folder / ".retl/test" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    said = retl("forget", "member-1", "--yes", folder=shop.folder)
    assert (
        said.code,
        "is a symbolic link\n  hint: remove it: retl does not write its state through links" in said.err,
    ) == (1, True)
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "precious"
    link.unlink()
    assert retl("forget", "member-1", "--yes", folder=shop.folder).code == 0


@pytest.mark.long
def test_user_of_a_container_may_have_no_name(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    shop.sync("it", "SELECT 'member-1' AS external_id, 1 AS n").run()
    said = retl("forget", "member-1", "--yes", folder=shop.folder)
    assert said.code == 0
    assert json.loads(receipt_of(said.out, shop.folder).read_text())["by"].startswith("user id ")


@pytest.mark.long
def test_person_who_is_erased_after_a_plan_was_saved_is_not_sent_by_it(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)")
    assert retl("plan", "it", "--out", "plan.retl", folder=shop.folder).code == 0
    shop.sync("gone", "SELECT 'member-3' AS external_id", **GONE).run("gone")
    said = retl("apply", "plan.retl", folder=shop.folder)
    assert "2 of 2 rows accepted in 1 request, 2 attributes written; 1 suppressed: the user was erased" in said.out
    assert "member-3" not in shop.sent()[-1]


@pytest.mark.long
def test_receipt_without_personal_data_is_refused_if_it_was_changed_and_false_once_the_person_is_back(
    shop: Shop, retl: Retl
):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)").run()
    receipt = receipt_of(retl("forget", "member-3", "--yes", folder=shop.folder).out, shop.folder)
    values = json.loads(receipt.read_text())
    assert (values["what"], values["target"], values["rows"], values["deleted_in_braze"]) == (
        "erasure",
        "test",
        {"it": 1},
        None,
    )
    assert "member-3" not in receipt.read_text()
    assert receipt.stat().st_mode & 0o077 == 0
    changed = shop.folder / "changed.json"
    changed.write_text(receipt.read_text().replace('"it": 1', '"it": 2'))
    refused = retl("forget", "--check", "changed.json", folder=shop.folder)
    assert (refused.code, refused.err) == (
        1,
        "changed.json does not have the seal of this target\n  hint: it was changed, or is of another target or project\n",
    )
    retl("forget", "member-3", "--allow", "--yes", folder=shop.folder)
    shop.run()
    back = retl("forget", "--check", str(receipt), folder=shop.folder)
    assert (back.code, back.out) == (
        1,
        # The row, and its line in the ledger.
        "may be sent again, as it was let back: external_id\nit: 2 rows about a person who was erased\n",
    )


@pytest.mark.long
def test_persons_whom_a_model_returns_are_erased_and_deleted_in_braze_in_few_requests(shop: Shop, retl: Retl):
    six(shop).run_all(*SIX)
    shop.model("requests", "SELECT 'member-' || i AS external_id FROM range(2, 5) r(i)")
    before = len(shop.sent())
    said = retl("forget", "--from", "requests", "--delete-in-braze", "--yes", folder=shop.folder)
    assert erased_from(said) == dict.fromkeys(SIX, (3, 0, 0))
    assert shop.sent()[before:] == [
        '{"external_ids": ["member-2", "member-3", "member-4"]}',
        '{"user_aliases": [{"alias_name": "nick-2", "alias_label": "shop"}, '
        '{"alias_name": "nick-3", "alias_label": "shop"}, {"alias_name": "nick-4", "alias_label": "shop"}]}',
    ]
    names = tuple(f"{word}-{i}" for word in ("member", "nick", "mail") for i in (2, 3, 4))
    assert files_about(shop.folder / ".retl", names) == set()
    assert shop.rows_of("state", "email", sync="news") == [("mail-1@x.example",), ("mail-5@x.example",)]


@pytest.mark.long
def test_forgetting_that_braze_refuses_leaves_the_states_and_can_be_repeated(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)").run()
    shop.braze.add_fault(Fault("status", status=403, path="/users/delete"))
    said = retl("forget", "member-3", "--delete-in-braze", "--yes", folder=shop.folder)
    assert (said.code, said.err.splitlines()[0]) == (1, "not deleted in Braze: Braze returned 403")
    shop.braze.add_fault(Fault("status", status=201, body="{}", path="/users/delete", times=4))
    how = Forgetting(shop.project(), print, clock=shop.clock)
    with pytest.raises(StateError, match="not deleted in Braze: Braze returned 201"):  # which confirms nothing
        forget(how, asked_for(how, "member-3"), in_braze=True)
    assert len(shop.clock.waits) == 3
    gone = forget(how, asked_for(how, "member-3"), in_braze=True)
    assert (gone.in_braze, check(how, gone.receipt).wrong) == (1, [])


@pytest.mark.long
@pytest.mark.parametrize("store", [False, True], ids=["folder", "store"])
def test_person_whom_braze_does_not_delete_at_first_stays_linked_and_is_not_sent(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, store: bool
):
    """Whatever is opened in between: only the states know the id of an address."""
    with Bucket() if store else nullcontext() as bucket:
        if bucket:
            shop.environ |= bucket.environ
            shop.state = {"path": bucket.url}
        for name, value in shop.environ.items():
            monkeypatch.setenv(name, value)
        sql = (
            "SELECT 'member-' || i AS external_id, 'mail-' || i || '@x.example' AS email, {} AS n FROM range(1, 4) r(i)"
        )
        shop.sync("it", sql.format(1)).run()
        shop.braze.add_fault(Fault("status", status=403, path="/users/delete"))
        asked = ("forget", "mail-3@x.example", "--delete-in-braze", "--yes")
        said = retl(*asked, folder=shop.folder)
        assert (said.code, said.err.splitlines()[0]) == (1, "not deleted in Braze: Braze returned 403")
        shop.sync("it", sql.format(2))
        assert (shop.run().plan.suppressed, len(shop.rows_of("state", "external_id"))) == (1, 3)
        said = retl(*asked, folder=shop.folder)
        assert shop.sent()[-1] == '{"external_ids": ["member-3"]}'
        assert (erased_from(said), "erased before" in said.err) == ({"it": (1, 0, 0)}, False)
        assert files_about(shop.folder / ".retl", ("member-3", "mail-3")) == set()
        assert {path.name[:6] for path in (shop.folder / ".retl/test/.erased").glob("*.txt")} == {"erased"}


@pytest.mark.long
def test_forgetting_whom_a_sync_has_deleted_says_that_its_other_identifiers_are_lost(shop: Shop, retl: Retl):
    shop.sync("people", "SELECT 'member-3' AS external_id, 'mail-3@x.example' AS email").run("people")
    news = f"SELECT '{GROUP}' AS subscription_group_id, 'mail-3@x.example' AS email, 'subscribed' AS subscription_state"
    shop.sync("news", news, mode="subscription_status_set")
    shop.sync("gone", "SELECT 'member-3' AS external_id", **GONE)
    shop.run_all("news", "gone", "people")
    said = retl("forget", "member-3", "--yes", folder=shop.folder)
    lost = (
        "erased before: external_id; other identifiers of the person are not known any more: "
        "pass them to `retl forget`, too"
    )
    assert f"{lost}\n" in said.err
    # The receipt is true of the id alone: the address is still there, and neither says otherwise.
    left = files_about(shop.folder / ".retl", ("member-3", "mail-3@x.example"))
    assert {path.partition("/")[2].partition("/")[0] for path in left} == {"news"}
    receipt = receipt_of(said.out, shop.folder)
    claim = "of external_id: no state of target test has it, and no sync sends it"
    in_receipt = json.loads(receipt.read_text())
    assert [in_receipt[key] for key in ("claim", "not_claimed", "erased_before")] == [claim, lost, ["external_id"]]
    checked = retl("forget", "--check", str(receipt), folder=shop.folder)
    assert (checked.code, checked.out, checked.err) == (0, f"true: {claim}\n", f"{lost}\n")
    said = retl("forget", "mail-3@x.example", "--yes", folder=shop.folder)
    assert (erased_from(said)["news"], "erased before" in said.err) == ((1, 0, 0), False)
    assert files_about(shop.folder / ".retl", ("mail-3@x.example",)) == set()


def test_model_of_the_docs_erases_addresses_with_ids_but_none_that_another_customer_has(shop: Shop):
    news = f"SELECT '{GROUP}' AS subscription_group_id, email, 'subscribed' AS subscription_state FROM customers"
    shop.warehouse("CREATE TABLE erasure_requests AS SELECT * FROM (VALUES ('u1'), ('u2')) r(external_id)")
    people = "('u1', 'a@x.example'), ('u2', 'b@x.example'), ('u3', 'B@x.example'), ('u4', NULL)"
    shop.warehouse(f"CREATE TABLE customers AS SELECT * FROM (VALUES {people}) r(external_id, email)")
    shop.sync("news", f"{news} WHERE email IS NOT NULL", mode="subscription_status_set").run("news")
    page = (Path(__file__).parents[2] / "docs/erasure.md").read_text()
    model = page.partition("```sql\n")[2].partition("```")[0]
    result = shop.sync("gone", model, **GONE).run("gone")
    assert (result.status, result.delivery.accepted) == ("success", 3)
    assert [body for body in shop.sent() if "a@x.example" in body][-1].count("b@x.example") == 0
    assert shop.run("news").plan.suppressed == 1
    assert files_about(shop.folder / ".retl", ("a@x.example",)) == set()


def test_receipt_of_a_person_whose_address_no_state_links_claims_nothing_of_the_address(shop: Shop, retl: Retl):
    news = f"SELECT '{GROUP}' AS subscription_group_id, 'mail-3@x.example' AS email, 'subscribed' AS subscription_state"
    shop.sync("news", news, mode="subscription_status_set").run("news")
    shop.sync("people", "SELECT 'member-3' AS external_id, 1 AS n").run("people")
    said = retl("forget", "member-3", "--yes", folder=shop.folder)
    checked = retl("forget", "--check", str(receipt_of(said.out, shop.folder)), folder=shop.folder)
    assert checked.out == "true: of external_id: no state of target test has it, and no sync sends it\n"
    other = "nothing is claimed of identifiers that the states did not link to these: pass them to `retl forget`, too\n"
    assert (other in said.err, checked.err) == (True, other)


def test_lost_key_or_a_damaged_file_stops_every_sync_instead_of_sending_whom_nobody_knows(shop: Shop):
    shop.sync("it", "SELECT 'member-' || i AS external_id, i AS n FROM range(1, 4) r(i)")
    shop.sync("gone", "SELECT 'member-3' AS external_id", **GONE).run("gone")
    folder = shop.folder / ".retl/test/.erased"
    (file,) = folder.glob("erased-*")
    kept = file.read_text()
    file.write_text(kept[:-9])
    assert shop.run("it").errors[0].message == f"{file} is damaged"
    file.write_text(kept)
    (folder / "key").unlink()
    assert shop.run("it").errors[0].message == f"{folder / 'key'} is missing"
    assert len(shop.sent()) == 1


@pytest.mark.long
def test_hints_about_whom_to_erase_lead_to_them(shop: Shop, retl: Retl):
    two = "SELECT 'nick' AS alias_name, label AS alias_label, 1 AS n FROM (VALUES ('shop'), ('app')) r(label)"
    shop.sync("aliases", two)
    shop.run("aliases")

    def hint_of(*arguments: str) -> str:
        said = retl("forget", *arguments, "--yes", folder=shop.folder)
        assert said.code in (1, 2)
        return said.err.rpartition("hint: ")[2].strip()

    assert hint_of("nick") == """name it by another identifier, an alias as '["NAME", "LABEL"]'"""
    assert retl("forget", '["nick", "shop"]', "--yes", folder=shop.folder).code == 0
    assert shop.rows_of("state", "alias_label", sync="aliases") == [("app",)]
    assert hint_of("--allow", "nobody") == (
        """name an identifier under which it was erased, an alias as '["NAME", "LABEL"]'"""
    )
    assert retl("forget", "--allow", '["nick", "shop"]', "--yes", folder=shop.folder).code == 0
    shop.model("requests", "SELECT 'member-1' AS id")
    assert hint_of("--from", "requests") == (
        "name its columns external_id, alias_name and alias_label, braze_id, email or phone"
    )
    shop.model("requests", "SELECT 'member-1' AS external_id")
    assert retl("forget", "--from", "requests", "--yes", folder=shop.folder).code == 0
