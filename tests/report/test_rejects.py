"""What is said of rows that are not in Braze: which ones, which of their columns, why, and how many."""

import json
import re

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import Retl, Shop, erased_from

GENDER = ("gender", "is not one of M, F, O, N, P")
BIO = ("bio", "is longer than 255 characters")
SCORE = ("score", "is NaN or infinite, which JSON cannot represent")
THREE_BAD = """
    SELECT 'u' || i AS external_id, if(i < 1, 'x', 'M') AS gender, if(i < 2, repeat('x', 300), 'ok') AS bio,
        if(i < {bad}, 'nan', '1')::DOUBLE AS score
    FROM range({rows}) r(i)
"""
HINTS = {
    "gender": "map it to one of these: CASE gender WHEN ... THEN ... END",
    "bio": "truncate it: left(bio, 255)",
    "score": "CASE WHEN isfinite(score) THEN score END",
}
TABLE = """\
  rows  column  reason                                           hint                                                       keys
  3     score   is NaN or infinite, which JSON cannot represent  CASE WHEN isfinite(score) THEN score END                   u0, u1, u2
  2     bio     is longer than 255 characters                    truncate it: left(bio, 255)                                u0, u1
  1     gender  is not one of M, F, O, N, P                      map it to one of these: CASE gender WHEN ... THEN ... END  u0
"""
ENTRIES = [("u0", *GENDER), ("u0", *BIO), ("u0", *SCORE), ("u1", *BIO), ("u1", *SCORE), ("u2", *SCORE)]
REASONS = [(*SCORE, 3), (*BIO, 2), (*GENDER, 1)]


# --- every column ----------------------------------------------------------------------------------------------------


def test_run_lists_every_column_that_makes_a_row_invalid(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=3, rows=4), strict=True, skip_on_invalid_records=True)
    done = retl("sync", "it", folder=shop.folder)
    assert (done.code, "1 of 1 row accepted in 1 request, 3 attributes written; 3 invalid" in done.out) == (1, True)
    assert done.err == f"it: 4 rows in the model: 1 added, 0 changed, 0 removed, 3 not sent, 0 unchanged\n{TABLE}"
    (result,) = json.loads((shop.folder / "target/run_results.json").read_text())["results"]
    assert [(row["key"], row["column"], row["reason"]) for row in result["invalid_rows"]] == ENTRIES
    assert {row["column"]: row["hint"] for row in result["invalid_rows"]} == HINTS
    assert [tuple(reason.values())[:3] for reason in result["invalid_reasons"]] == REASONS
    assert (result["plan"]["invalid"], result["failures"]) == (3, 3)


@pytest.mark.long
def test_rejects_lists_every_column_and_counts_rows(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=3, rows=4), strict=True, skip_on_invalid_records=True).run()
    listed = retl("rejects", "it", "--output", "json", folder=shop.folder)
    entries = [(row["key"], row["column"], row["reason"]) for row in json.loads(listed.out)]
    assert (listed.code, sorted(entries)) == (0, sorted(ENTRIES))
    assert {row["column"]: row["hint"] for row in json.loads(listed.out)} == HINTS
    (status,) = json.loads(retl("status", "it", "--output", "json", folder=shop.folder).out)
    assert (status["rows"], status["rejected"]) == (1, 3)
    erased = retl("forget", "u0", "--yes", folder=shop.folder)
    assert erased_from(erased) == {"it": (0, 1, 0)}


def test_plan_lists_every_column_of_an_invalid_row(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=3, rows=4), strict=True)
    assert f"  3 rows invalid\n{TABLE}  1 record, " in retl("plan", "it", folder=shop.folder).out
    (planned,) = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)
    assert [(row["key"], row["column"], row["reason"]) for row in planned["invalid_rows"]] == ENTRIES
    assert [tuple(reason.values())[:3] for reason in planned["invalid_reasons"]] == REASONS


def test_rows_with_one_reason_are_told_once_with_their_number_and_the_first_of_them(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=1030, rows=1031), strict=True, skip_on_invalid_records=True)
    score = f"  1,030  score   {SCORE[1]}  {HINTS['score']}                   u0, u1, u10 and 1,027 more\n"
    others = f"  2      bio     {BIO[1]}                    {HINTS['bio']}                                u0, u1\n"
    for said in (retl("plan", "it", folder=shop.folder).out, retl("sync", "it", folder=shop.folder).err):
        assert said.count(SCORE[1]) == 1
        assert score + others in said
    listed = retl("rejects", "it", folder=shop.folder)
    assert [line.split()[0] for line in listed.out.splitlines()] == ["rows", "1,030", "2", "1"]
    assert listed.out.splitlines()[1].endswith("  u0, u1, u10 and 1,027 more")
    assert listed.err == "one line per reason; every row: `retl rejects it --output csv`\n"
    assert len(retl("rejects", "it", "--output", "csv", folder=shop.folder).out.splitlines()) == 1 + 1033


def test_reasons_beyond_those_that_are_told_are_counted(shop: Shop, retl: Retl):
    columns = ", ".join(f"'nan'::DOUBLE AS c{i:02}" for i in range(23))
    shop.sync("it", f"SELECT 'u1' AS external_id, {columns}", strict=True)
    assert "  ... and 3 more reasons\n" in retl("plan", "it", folder=shop.folder).out
    assert "  ... and 3 more reasons\n" in retl("sync", "it", folder=shop.folder).err
    listed = retl("rejects", "it", folder=shop.folder)
    assert (len(listed.out.splitlines()), listed.err) == (1 + 20, "... and 3 more lines; --limit 23 shows all\n")
    assert len(retl("rejects", "it", "--limit", "23", folder=shop.folder).out.splitlines()) == 1 + 23


def test_rows_whose_records_are_shown_are_listed_one_by_one(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(3) r(i)")
    shop.braze.add_fault(Fault("object_error", external_ids=["u1", "u2"]))
    shop.run()
    once = retl("rejects", "it", folder=shop.folder).out.splitlines()
    assert (len(once), once[1].split()[0], once[1].endswith("  u1, u2")) == (2, "2", True)
    shown = retl("rejects", "it", "--show-values", folder=shop.folder).out.splitlines()
    assert [line.rpartition("  ")[2] for line in shown] == [
        "record",
        '{"external_id":"u1","n":1}',
        '{"external_id":"u2","n":2}',
    ]


def test_column_is_listed_once_with_the_first_rule_that_it_breaks(shop: Shop):
    purchase = {"mode": "users_track", "track_record_type": "purchases", "primary_key": "id"}
    shop.sync(
        "it",
        """SELECT 1 AS id, ' ' AS external_id, repeat(' ', 256) AS product_id, 'x' AS currency, NULL::INTEGER AS price,
            101 AS quantity, 'today' AS time""",
        **purchase,
    )
    assert [(row.column, row.reason) for row in shop.run().invalid] == [
        ("external_id", "is empty"),
        ("product_id", "is empty"),
        ("currency", "is not a currency of ISO 4217"),
        ("price", "is missing"),
        ("quantity", "is not between 1 and 100"),
        ("time", "is not a valid time"),
    ]


def test_row_that_braze_rejected_and_that_is_invalid_now_counts_once(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=0, rows=3).replace("i < 2", "i < 0").replace("i < 1", "i < 0"), strict=True)
    shop.braze.add_fault(Fault("object_error", external_ids=["u1"]))
    assert shop.run().delivery.rejected == 1
    shop.sync("it", THREE_BAD.format(bad=3, rows=3), strict=True)
    assert shop.run().status == "blocked"
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert [(row["key"], row["status"]) for row in listed if row["key"] == "u1"] == [
        ("u1", "invalid"),
        ("u1", "invalid"),
        ("u1", "rejected"),
    ]
    (status,) = json.loads(retl("status", "it", "--output", "json", folder=shop.folder).out)
    assert status["rejected"] == 3


# --- whose row it is -------------------------------------------------------------------------------------------------

EVENTS = {"mode": "users_track", "track_record_type": "events", "skip_on_invalid_records": True}
OF_SEVERAL = """
    SELECT * FROM (VALUES
        ('u1', NULL, NULL, NULL, 'seen', '2026-11-01'),
        ('u2', NULL, NULL, NULL, 'seen', 'today'),
        (NULL, 'ann', 'shop', NULL, 'seen', 'today'),
        (NULL, NULL, NULL, '4711', 'seen', 'today'),
        (NULL, NULL, NULL, NULL, 'seen', '2026-11-01')
    ) AS of_several(external_id, alias_name, alias_label, braze_id, name, time)
"""
WHOSE = ["alias_name:ann alias_label:shop", "braze_id:4711", "external_id:u2", None]


def whose(rows: list[dict[str, str | None]]) -> list[str | None]:
    """The identifiers of rows whose keys are digests."""
    assert all(re.fullmatch("[0-9a-f]{32}#1", row["key"] or "") for row in rows)
    return sorted((row["identifier"] for row in rows), key=lambda one: one or "~")


@pytest.mark.long
def test_identifier_is_listed_next_to_the_digest_of_an_invalid_row(shop: Shop, retl: Retl):
    shop.sync("it", OF_SEVERAL, **EVENTS)
    (planned,) = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)
    assert whose(planned["invalid_rows"]) == WHOSE
    shown = retl("plan", "it", folder=shop.folder).out
    assert re.search(r"^  \+ [0-9a-f]{32}#1 \(external_id:u1\)$", shown, flags=re.MULTILINE)
    assert re.search(r"^  3 +time +is not a valid time .* [0-9a-f]{32}#1 \(\w+:\S+\), .*$", shown, flags=re.MULTILINE)
    (result,) = json.loads(retl("sync", "it", "--output", "json", folder=shop.folder).out)
    assert whose(result["invalid_rows"]) == WHOSE
    assert whose(json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)) == WHOSE
    listed = retl("rejects", "it", folder=shop.folder).out
    assert re.search(r"^  3 +added  invalid .* [0-9a-f]{32}#1 \(external_id:u2\)", listed, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault("object_error", external_ids=["u1"]), "rejected"), (Fault("drop_after"), "in_doubt")],
)
def test_identifier_is_listed_of_rows_that_braze_rejected_or_that_are_in_doubt(
    shop: Shop, retl: Retl, fault: Fault, status: str
):
    shop.sync("it", OF_SEVERAL, **EVENTS)
    shop.braze.add_fault(fault)
    shop.run()
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert whose([row for row in listed if row["status"] == status]) == ["external_id:u1"]


def test_rows_with_a_primary_key_have_no_identifier_beside_it(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 1 AS id, 'u1' AS external_id, 'seen' AS name, 'today' AS time", **EVENTS, primary_key="id")
    shop.run()
    (row,) = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert (row["key"], row["identifier"]) == ("1", None)
    assert retl("rejects", "it", folder=shop.folder).out.endswith("  1\n")


def test_row_that_was_sent_under_a_key_of_its_own_is_listed_with_whom_it_is_about(shop: Shop, retl: Retl):
    events = """SELECT * FROM (VALUES (1, 'u1', NULL, NULL), (2, NULL, {'alias_name': 'ann', 'alias_label': 'shop'}, NULL),
        (3, NULL, NULL, 'ann@x.de')) t(id, external_id, user_alias, email), (SELECT 'seen' AS name, '2026-11-01' AS time)"""
    shop.sync("it", events, **EVENTS, primary_key="id")
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 3
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert [(row["key"], re.sub("[0-9a-f]{12}", "DIGEST", row["identifier"])) for row in listed] == [
        ("1", "external_id:u1"),
        ("2", "alias_name:ann alias_label:shop"),
        ("3", "email:DIGEST"),
    ]
    assert "  1 (external_id:u1), 2 (alias_name:ann alias_label:shop), 3 (email:" in (
        retl("rejects", "it", folder=shop.folder).out
    )


def test_row_whose_key_says_who_it_is_about_has_no_identifier_beside_it(shop: Shop, retl: Retl):
    shop.sync(
        "it", "SELECT 'u1' AS external_id, 'seen' AS name, '2026-11-01' AS time", **EVENTS, primary_key="external_id"
    )
    shop.braze.add_fault(Fault("drop_after"))
    shop.run()
    (row,) = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert (row["key"], row["identifier"]) == ("u1", None)


def test_person_is_erased_from_invalid_rows_whose_key_is_a_digest(shop: Shop, retl: Retl):
    shop.sync("it", OF_SEVERAL, **EVENTS).run()
    erased = retl("forget", "ann", "--yes", folder=shop.folder)
    assert erased_from(erased) == {"it": (0, 1, 0)}


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skips", [True, False])
def test_head_of_a_plan_counts_what_is_sent_and_says_the_others_beside(shop: Shop, retl: Retl, skips: bool):
    shop.sync("it", THREE_BAD.format(bad=3, rows=10), strict=True, skip_on_invalid_records=skips)
    planned = retl("plan", "it", folder=shop.folder).out
    assert planned.splitlines()[1] == "  + 7 added   ~ 0 changed   - 0 removed   3 not sent   0 unchanged"
    assert ("  blocked: a run would send none of this\n" in planned) is not skips
    (plan,) = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)
    assert (plan["added"], plan["to_send"], plan["not_sent"]) == (10, 7, {"invalid": 3})
    assert plan["to_send_by_kind"] == {"added": 7, "changed": 0, "removed": 0, "opt_out": 0}
    assert "| it | users_track / attributes | 7 | 0 | 0 | 3 | 1 |" in (
        retl("plan", "it", "--output", "markdown", folder=shop.folder).out
    )
    done = retl("sync", "it", folder=shop.folder)
    assert done.err.startswith("it: 10 rows in the model: 7 added, 0 changed, 0 removed, 3 not sent, 0 unchanged\n")
    assert len(shop.sent()) == skips


def test_rows_that_braze_has_rejected_or_that_are_held_are_not_in_the_head_of_a_plan(shop: Shop, retl: Retl):
    event = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({}) r(i)"
    shop.sync("it", event.format(3), **{**EVENTS, "primary_key": "external_id"})
    shop.braze.add_fault(Fault("object_error", external_ids=["u1"]))
    shop.run()
    shop.braze.add_fault(Fault("drop_after"))
    shop.model("it", event.format(5))
    shop.run()
    shop.model("it", event.format(6))
    planned = retl("plan", "it", folder=shop.folder).out
    assert planned.splitlines()[1] == "  + 1 added   ~ 0 changed   - 0 removed   3 not sent   2 unchanged"
    assert "  1 row rejected by Braze earlier and unchanged: not resent\n  2 rows in doubt since an earlier" in planned
    retl("resolve", "it", "--mark-accepted", folder=shop.folder)
    planned = retl("plan", "it", folder=shop.folder).out
    assert planned.splitlines()[1] == "  + 1 added   ~ 0 changed   - 0 removed   3 not sent   2 unchanged"
    assert "  2 rows marked as accepted by `retl resolve`: recorded, not sent\n" in planned
    assert shop.run().delivery.accepted == 1


# --- what to do about rejected rows ----------------------------------------------------------------------------------

PERSON = "SELECT 'u1' AS external_id, 1 AS n"
CONSENT = f"SELECT *, 'opted_in' AS email_subscribe FROM ({PERSON})"
SEEN_ONCE = "SELECT 1 AS id, 'u1' AS external_id, 'seen' AS name, '2026-11-01' AS time"
CORRECT = "correct it: it is sent again when it changes"
RETRY = f"{CORRECT}; to send it as it is, run `retl retry it`"


@pytest.mark.parametrize(
    ("model", "options", "hint"),
    [
        pytest.param(PERSON, {}, RETRY, id="attributes"),
        pytest.param(SEEN_ONCE, {**EVENTS, "primary_key": "id"}, RETRY, id="events, of which none has arrived"),
        pytest.param(
            SEEN_ONCE, {**EVENTS, "primary_key": "id", "on_in_doubt": "resend"}, CORRECT, id="others would be doubled"
        ),
        pytest.param(CONSENT, {}, CORRECT, id="it would opt in who may have opted out since"),
        pytest.param(
            "SELECT 'u1' AS external_id", {"mode": "users_delete", "allow_destructive": True}, None, id="deletes"
        ),
    ],
)
def test_hint_of_a_rejected_row_names_retry_only_where_that_is_harmless(
    shop: Shop, retl: Retl, model: str, options: dict[str, object], hint: str | None
):
    shop.sync("it", model, **options)
    refused = Fault("status", status=400, external_ids=["u1"], times=None)
    shop.braze.add_fault(refused if hint is None else Fault("object_error", external_ids=["u1"]))
    retl("sync", "it", folder=shop.folder)
    shop.braze.clear_faults()
    (row,) = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert (row["status"], row["hint"]) == ("rejected", hint)
    if hint == RETRY:
        assert retl("retry", "it", "--yes", folder=shop.folder).code == 0
        assert retl("rejects", "it", folder=shop.folder).err == "it: no invalid, rejected or in-doubt rows\n"
        assert shop.run().plan.to_send == 0
        assert len(shop.braze.events()) == (1 if options else 0)
