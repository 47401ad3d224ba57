"""Saved plans: what was reviewed is what is sent, or nothing is."""

import fcntl
import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pyrage
import pyrage.x25519
import pytest

from reverse_etl.sandbox import Fault, Sandbox
from tests.bucket import Bucket
from tests.shop import Retl, Shop, database, examples, running

PEOPLE = "SELECT 'u' || i AS external_id, 'name ' || i AS first_name, i AS points FROM people"
HINT = "  hint: create a new plan: `retl plan it --out FILE`\n"
NO_SEAL = (
    "plan.retl has no valid seal: it was changed after it was created, or created beside another state, "
    "or by an older retl\n  hint: create it again where it is applied; "
    "or pass --digest with what `retl plan` printed when it was reviewed\n"
)


@pytest.fixture
def people(shop: Shop) -> Shop:
    shop.warehouse("CREATE TABLE people AS SELECT i FROM range(200) r(i)")
    return shop.sync("it", PEOPLE)


def saved(people: Shop, retl: Retl, *options: str) -> Path:
    outcome = retl("plan", "it", "--out", "plan.retl", *options, folder=people.folder)
    assert outcome.code == 0, outcome.err
    return people.folder / "plan.retl"


def reviewed(people: Shop) -> tuple[str, str]:
    """The options with which a plan is believed though its seal is broken."""
    return "--digest", sha256((people.folder / "plan.retl").read_bytes()).hexdigest()


def applied(people: Shop, retl: Retl, *options: str) -> tuple[int, str]:
    outcome = retl("apply", "plan.retl", *options, folder=people.folder)
    return outcome.code, re.sub(r" \(\d\.\d s\)", "", outcome.out) + outcome.err


@pytest.mark.long
def test_applied_plan_sends_byte_for_byte_what_a_run_would_have_sent(people: Shop, retl: Retl, tmp_path: Path):
    with Sandbox() as other:
        twin = Shop(tmp_path / "twin", other)
        twin.warehouse("CREATE TABLE people AS SELECT i FROM range(200) r(i)")
        twin.sync("it", PEOPLE).run()
        saved(people, retl)
        assert people.sent() == []
        assert applied(people, retl)[0] == 0
        assert sorted(people.sent()) == sorted(twin.sent())
        assert len(people.sent()) == 3
    outcome = retl("sync", "it", folder=people.folder)
    assert (outcome.code, "nothing to send, 0 requests" in outcome.out) == (0, True)


def test_model_is_not_run_again(people: Shop, retl: Retl):
    saved(people, retl)
    (people.folder / "warehouse.duckdb").unlink()
    code, said = applied(people, retl)
    assert (code, said.splitlines()) == (
        0,
        [
            "it: success, 200 of 200 rows accepted in 3 requests, 400 attributes written",
            "it: 200 rows in the model: 200 added, 0 changed, 0 removed, 0 unchanged",
        ],
    )


def change_model(people: Shop, retl: Retl) -> None:
    people.model("it", PEOPLE.replace("name", "Name"))


def change_sync(people: Shop, retl: Retl) -> None:
    people.sync("it", PEOPLE, send="all_columns")


def change_batches(people: Shop, retl: Retl) -> None:
    people.destination = {"max_objects_per_request": 50}
    people.write()


def change_state(people: Shop, retl: Retl) -> None:
    people.warehouse("DELETE FROM people WHERE i > 0")
    retl("sync", "it", folder=people.folder)


IN_MODEL = "the sync, its models or their vars have changed since it was created (2026)"
IN_STATE = "the state has changed since it was created (2026): rows were sent, or resolved or forgotten manually"


@pytest.mark.long
def test_stale_plan_is_refused_and_nothing_is_sent(people: Shop, retl: Retl):
    made = saved(people, retl)
    with database(made) as connection:
        at = connection.execute("SELECT strftime(made_at::TIMESTAMP, '%Y-%m-%d %H:%M') FROM about").fetchone()[0]
    for change, options, why in [
        (change_model, [], IN_MODEL),
        (change_sync, [], IN_MODEL),
        (change_batches, [], '"max_objects_per_request" of target "test" was 75 when it was created, and is now 50'),
        (lambda *_: None, ["--max-age", "0m"], "it was created at 2026, and is older than --max-age allows"),
        (change_state, [], IN_STATE),
    ]:
        change(people, retl)
        before = people.sent()
        message = f"it: plan refused: {why.replace('2026', f'{at} UTC')}\n{HINT}"
        assert applied(people, retl, *options) == (1, message)
        assert people.sent() == before
        people.destination = {}
        people.sync("it", PEOPLE)


def test_plan_is_applied_once_also_from_another_machine_that_shares_the_state(people: Shop, retl: Retl, tmp_path: Path):
    saved(people, retl)
    other = tmp_path / "other"
    shutil.copytree(people.folder, other, ignore=shutil.ignore_patterns(".retl"))
    (other / ".retl").symlink_to(people.folder / ".retl")
    assert retl("apply", "plan.retl", folder=other).code == 0
    code, message = applied(people, retl)
    assert (code, message.startswith("it: plan refused: it was already applied, at 20")) == (1, True)
    assert len(people.sent()) == 3


@pytest.mark.long
def test_run_that_sent_nothing_makes_no_plan_stale(people: Shop, retl: Retl):
    people.run()
    people.warehouse("INSERT INTO people VALUES (1000)")
    saved(people, retl)
    people.warehouse("DELETE FROM people WHERE i = 1000")
    assert people.run().plan.to_send == 0
    assert applied(people, retl)[0] == 0
    assert people.sent()[3:] == ['{"attributes":[{"external_id":"u1000","first_name":"name 1000","points":1000}]}']


@pytest.mark.long
def test_guard_that_stopped_the_plan_stops_its_application_until_it_is_forced(people: Shop, retl: Retl):
    people.sync("it", PEOPLE, guards={"max_changes": 10})
    assert retl("plan", "it", "--out", "plan.retl", folder=people.folder).code == 1
    for _ in range(2):
        code, message = applied(people, retl)
        assert (code, "it: guard max_changes: 200 rows would be sent; at most 10 are allowed" in message) == (1, True)
    assert people.sent() == []
    assert applied(people, retl, "--skip-guard", "max_changes")[0] == 0
    assert len(people.sent()) == 3


@pytest.mark.long
def test_killed_application_is_folded_in_and_not_repeated(people: Shop, retl: Retl):
    saved(people, retl)
    with running(people, until="u100", arguments=["apply", "plan.retl", "--threads", "1"]) as process:
        process.kill()
    code, message = applied(people, retl)
    assert (code, "it: plan refused: it was already applied, at" in message) == (1, True)
    people.braze.clear_faults()
    result = people.run()
    assert (result.status, result.plan.unchanged, result.plan.added) == ("success", 75, 125)


@pytest.mark.long
def test_application_that_braze_did_not_take_at_all_can_be_planned_again(people: Shop, retl: Retl):
    saved(people, retl)
    people.braze.add_fault(Fault("status", status=401))
    assert applied(people, retl)[0] == 1
    people.braze.clear_faults()
    code, message = applied(people, retl)
    assert (code, "it: plan refused: it was already applied, at" in message) == (1, True)
    saved(people, retl)
    assert applied(people, retl)[0] == 0


def test_several_syncs_are_all_refused_if_one_plan_is_stale(people: Shop, retl: Retl):
    people.sync("other", "SELECT 'x' AS external_id, 1 AS n")
    assert retl("plan", "--out", "plan.retl", folder=people.folder).code == 0
    people.model("other", "SELECT 'x' AS external_id, 2 AS n")
    assert applied(people, retl)[0] == 1
    assert people.sent() == []


def test_plan_for_another_target_is_refused(people: Shop, retl: Retl):
    made = saved(people, retl)
    with database(made) as connection:
        connection.execute("UPDATE about SET target = 'prod'")
    message = 'the plan is for target "prod", not "test"\n  hint: pass --target prod\n'
    assert applied(people, retl, *reviewed(people)) == (2, message)


# --- the file --------------------------------------------------------------------------------------------------------


def test_file_is_its_owners_only_and_says_what_it_holds(people: Shop, retl: Retl):
    outcome = retl("plan", "it", "--out", "plan.retl", folder=people.folder)
    assert outcome.err == (
        "wrote plan.retl (contains personal data; readable by you only); apply it within 24 hours: `retl apply plan.retl`\n"
        f"its digest: {reviewed(people)[1]}\n"
    )
    assert oct((people.folder / "plan.retl").stat().st_mode)[-3:] == "600"
    assert sorted(path.name for path in people.folder.iterdir() if path.name.startswith((".retl-", "plan"))) == [
        "plan.retl"
    ]


@pytest.mark.long
def test_encrypted_plan_can_be_made_with_the_public_half_of_a_key(people: Shop, retl: Retl, monkeypatch):
    identity = pyrage.x25519.Identity.generate()
    plain = saved(people, retl).read_bytes()
    monkeypatch.setenv("RETL_PLAN_KEY", str(identity.to_public()))
    secret = saved(people, retl, "--encrypt")
    assert (b"personal data" in plain, b"personal data" in secret.read_bytes()) == (True, False)
    assert oct(secret.stat().st_mode)[-3:] == "600"
    assert applied(people, retl) == (2, "RETL_PLAN_KEY is not a valid age key\n  hint: " + AGE)
    monkeypatch.setenv("RETL_PLAN_KEY", str(pyrage.x25519.Identity.generate()))
    assert applied(people, retl)[1].startswith("cannot decrypt plan.retl with RETL_PLAN_KEY: ")
    monkeypatch.delenv("RETL_PLAN_KEY")
    assert applied(people, retl) == (
        2,
        "plan.retl is encrypted\n  hint: set RETL_PLAN_KEY to the matching age identity (AGE-SECRET-KEY-1...)\n",
    )
    monkeypatch.setenv("RETL_PLAN_KEY", str(identity))
    assert applied(people, retl)[0] == 0
    assert len(people.sent()) == 3


AGE = "generate a key pair with age-keygen: age1... encrypts, AGE-SECRET-KEY-1... also decrypts\n"


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        (["plan", "it", "--encrypt"], None, "--encrypt requires --out\n  hint: run `retl plan --out FILE --encrypt`\n"),
        (
            ["plan", "it", "--out", "p", "--encrypt"],
            None,
            "RETL_PLAN_KEY is not set\n  hint: set it to an age key; age-keygen generates one\n",
        ),
        (["plan", "it", "--out", "p", "--encrypt"], "secret", f"RETL_PLAN_KEY is not a valid age key\n  hint: {AGE}"),
        (
            ["plan", "it", "--out", "nowhere/p"],
            None,
            "cannot write nowhere/p: No such file or directory\n  hint: make its folder writable for the current user, or use another one\n",
        ),
        (
            ["apply", "nowhere"],
            None,
            "cannot read nowhere: No such file or directory\n  hint: create one with `retl plan --out FILE`\n",
        ),
        (
            ["apply", "syncs.yml"],
            None,
            "syncs.yml is not a saved retl plan\n  hint: create one with `retl plan --out FILE`\n",
        ),
        (
            ["apply", "syncs.yml", "--max-age", "soon"],
            None,
            '--max-age: "soon" is not a valid age\n  hint: use minutes, hours or days: 30m, 24h, 7d\n',
        ),
    ],
)
def test_what_cannot_be_saved_or_applied_is_said(people: Shop, retl: Retl, monkeypatch, arguments, key, message):
    monkeypatch.delenv("RETL_PLAN_KEY", raising=False)
    if key:
        monkeypatch.setenv("RETL_PLAN_KEY", key)
    outcome = retl(*arguments, folder=people.folder)
    assert (outcome.code, outcome.err) == (2, message)
    assert not (people.folder / "p").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_folder_that_cannot_be_written_is_named(people: Shop, retl: Retl):
    (people.folder / "closed").mkdir(mode=0o500)
    outcome = retl("plan", "it", "--out", "closed/p", folder=people.folder)
    assert outcome.err.startswith("cannot write closed/p: Permission denied")


@pytest.mark.long
def test_scheduled_run_after_an_apply_has_nothing_to_do(people: Shop, retl: Retl):
    people.sync("it", PEOPLE, schedule="0 0 1 1 *")
    saved(people, retl)
    assert applied(people, retl)[0] == 0
    outcome = retl("run-due", folder=people.folder)
    assert (outcome.code, outcome.out.startswith("nothing is due; ")) == (0, True)
    assert len(people.sent()) == 3


# --- a file that somebody else has made --------------------------------------------------------------------------------


@pytest.mark.long
def test_every_bit_of_a_plan_is_sealed(people: Shop, retl: Retl, seed: int):
    made = saved(people, retl)
    whole, draw = made.read_bytes(), random.Random(seed)
    for _ in range(examples(25, 200)):
        changed = bytearray(whole)
        changed[draw.randrange(12, len(whole))] ^= 1 << draw.randrange(8)  # the first twelve say that it is DuckDB's
        made.write_bytes(changed)
        code, said = applied(people, retl)
        assert (code, said.startswith("plan.retl ")) == (2, True)
    made.write_bytes(whole[:-1])
    assert applied(people, retl) == (2, NO_SEAL)
    assert people.sent() == []
    made.write_bytes(whole)
    assert applied(people, retl)[0] == 0


@pytest.mark.long
def test_plan_of_another_machine_needs_the_digest_that_was_reviewed(people: Shop, retl: Retl, tmp_path: Path):
    made = retl("plan", "it", "--out", "plan.retl", folder=people.folder)
    digest = made.err.splitlines()[-1].removeprefix("its digest: ")
    other = tmp_path / "other"
    shutil.copytree(people.folder, other, ignore=shutil.ignore_patterns(".retl"))
    refused = retl("apply", "plan.retl", folder=other)
    assert (refused.code, refused.err) == (2, NO_SEAL)
    wrong = retl("apply", "plan.retl", "--digest", "0" * 64, folder=other)
    assert (wrong.code, wrong.err) == (
        2,
        f"plan.retl: its digest is {digest}, and not that of --digest\n"
        "  hint: it is not the file that was reviewed: create a new plan\n",
    )
    assert retl("apply", "plan.retl", "--digest", "é", folder=other).err == wrong.err
    assert people.sent() == []
    assert retl("apply", "plan.retl", "--digest", digest, folder=other).code == 0


def test_encrypted_plan_that_somebody_else_encrypted_is_refused(people: Shop, retl: Retl, monkeypatch):
    """Everybody has the public half of the key."""
    identity = pyrage.x25519.Identity.generate()
    made = saved(people, retl)
    with database(made) as connection:
        connection.execute("UPDATE sync_it.outbox SET body = replace(body, 'name 1', 'nom 1')")
    made.write_bytes(pyrage.encrypt(made.read_bytes(), [identity.to_public()]))
    monkeypatch.setenv("RETL_PLAN_KEY", str(identity))
    assert applied(people, retl) == (2, NO_SEAL)
    assert people.sent() == []


def test_key_of_seals_lies_beside_the_state_for_its_owner_only(people: Shop, retl: Retl):
    saved(people, retl)
    key = people.folder / ".retl/test/plan.key"
    assert (len(key.read_bytes()), oct(key.stat().st_mode)[-3:]) == (32, "600")
    first = key.read_bytes()
    saved(people, retl)
    assert key.read_bytes() == first


@pytest.mark.long
def test_machines_that_share_a_state_share_the_key_of_its_seals(people: Shop, retl: Retl, tmp_path: Path, monkeypatch):
    with Bucket() as bucket:
        people.state = {"path": bucket.url}
        people.write()
        for name, value in bucket.environ.items():
            monkeypatch.setenv(name, value)
        saved(people, retl)
        other = tmp_path / "other"
        shutil.copytree(people.folder, other, ignore=shutil.ignore_patterns(".retl"))
        assert retl("apply", "plan.retl", folder=other).code == 0
    assert len(people.sent()) == 3


def test_comment_on_a_pull_request_says_which_plan_it_is(people: Shop, retl: Retl):
    made = retl("plan", "it", "--out", "plan.retl", "--output", "markdown", folder=people.folder)
    assert made.out.endswith(f"\nSaved plan: `{reviewed(people)[1]}`\n")


# --- a file that somebody has changed ----------------------------------------------------------------------------------


def refused(people: Shop, retl: Retl, made: Path, changes: Iterable[str]) -> Iterator[tuple[int, str]]:
    """What comes of the plan with each change, once it is believed; without a review, none is."""
    whole = made.read_bytes()
    for change in changes:
        made.write_bytes(whole)
        with database(made) as connection:
            connection.execute(change)
        assert applied(people, retl)[0] == 2
        yield applied(people, retl, *reviewed(people))
    assert people.sent() == []
    assert retl("sync", "it", folder=people.folder).code == 0


@pytest.mark.long
def test_plan_that_does_not_contain_what_it_says_is_refused(people: Shop, retl: Retl):
    changes = [
        "UPDATE syncs SET plan = json_merge_patch(plan, '{\"removed\": 5}')",
        "UPDATE syncs SET plan = json_merge_patch(plan, '{\"to_send\": 1}')",
        "UPDATE syncs SET plan = json_merge_patch(plan, '{\"in_state\": 100000}')",
        "DELETE FROM sync_it.outbox WHERE rowid < 10",
        "INSERT INTO sync_it.outbox FROM sync_it.outbox LIMIT 1",
        "UPDATE sync_it.outbox SET action = 'invalid' WHERE rowid < 10",
        "UPDATE sync_it.outbox SET body = body || ' '",
    ]
    what = "it: failed\nit: plan refused: the file was changed after it was created: it does not contain what it says\n"
    outcomes = refused(people, retl, saved(people, retl), changes)
    assert dict(zip(changes, outcomes, strict=True)) == dict.fromkeys(changes, (1, what + HINT))


@pytest.mark.long
def test_damaged_plan_is_an_error_and_nothing_is_sent(people: Shop, retl: Retl):
    damages = {
        "CREATE VIEW v AS FROM read_text('/etc/hosts')": (
            2,
            "plan.retl is not a saved retl plan: it contains a view\n",
        ),
        "DROP TABLE about": (2, "plan.retl is not a saved retl plan\n"),
        "DELETE FROM about": (2, "plan.retl is not a saved retl plan\n"),
        "UPDATE syncs SET plan = '[]'": (2, "plan.retl is damaged\n"),
        "UPDATE syncs SET plan = '{\"what\": 1}'": (2, "plan.retl is damaged\n"),
        "UPDATE syncs SET origin = '{}'": (2, "plan.retl is damaged\n"),
        "DROP TABLE sync_it.rules": (1, "it: failed\nit: plan refused: the file is damaged: Catalog Error: "),
        "ALTER TABLE sync_it.outbox DROP COLUMN body": (
            1,
            "it: failed\nit: plan refused: the file is damaged: Binder Error: ",
        ),
    }
    outcomes = refused(people, retl, saved(people, retl), damages)
    for damage, (code, said) in zip(damages, outcomes, strict=True):
        assert (code, said[: len(damages[damage][1])]) == damages[damage]
        assert "Traceback" not in said


def test_what_killed_processes_have_left_of_plans_goes_with_the_next(people: Shop, retl: Retl):
    """It contains personal data. What is younger than a minute, or locked, is somebody's who is at work."""
    left = [people.folder / f".retl-plan-{name}" for name in ("killed", "locked", "new")]
    for folder in left:
        folder.mkdir()
        (folder / "plan.duckdb").write_text("u1@example.com")
        (folder / ".lock").touch()
    for folder in left[:2]:
        os.utime(folder, (0, 0))
    held = os.open(left[1] / ".lock", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert retl("plan", "it", "--out", "plan.retl", folder=people.folder).code == 0
    assert sorted(people.folder.glob(".retl-plan-*")) == left[1:]
    os.close(held)
    assert retl("forget", "nobody@example.com", "--yes", folder=people.folder).code in (0, 1)
    assert sorted(people.folder.glob(".retl-plan-*")) == left[2:]


def test_plan_of_a_model_that_rows_have_left_is_applied(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(5) r(i)")
    assert shop.run().status == "success"
    shop.sync("it", "SELECT 'u' || i AS external_id, i + 1 AS n FROM range(3) r(i)")
    assert retl("plan", "it", "--out", "p.retl", folder=shop.folder).code == 0
    applied = retl("apply", "p.retl", folder=shop.folder)
    assert (applied.code, "2 left it, which Braze keeps" in applied.err) == (0, True), applied.err
    noted = "(SELECT external_id FROM state WHERE _retl_absent_since IS NOT NULL)"
    assert sorted(shop.rows_of(noted, "external_id")) == [("u3",), ("u4",)]
