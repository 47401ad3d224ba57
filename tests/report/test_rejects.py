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
  key  column  reason                                           hint
  u0   gender  is not one of M, F, O, N, P                      map it to one of these: CASE gender WHEN ... THEN ... END
  u0   bio     is longer than 255 characters                    truncate it: left(bio, 255)
  u0   score   is NaN or infinite, which JSON cannot represent  CASE WHEN isfinite(score) THEN score END
  u1   bio     is longer than 255 characters                    truncate it: left(bio, 255)
  u1   score   is NaN or infinite, which JSON cannot represent  CASE WHEN isfinite(score) THEN score END
  u2   score   is NaN or infinite, which JSON cannot represent  CASE WHEN isfinite(score) THEN score END
"""
ENTRIES = [("u0", *GENDER), ("u0", *BIO), ("u0", *SCORE), ("u1", *BIO), ("u1", *SCORE), ("u2", *SCORE)]
REASONS = [(*SCORE, 3), (*BIO, 2), (*GENDER, 1)]


# --- every column ----------------------------------------------------------------------------------------------------


def test_run_lists_every_column_that_makes_a_row_invalid(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=3, rows=4), strict=True, skip_on_invalid_records=True)
    done = retl("sync", "it", folder=shop.folder)
    assert (done.code, "1 of 1 row accepted in 1 request, 3 attributes written; 3 invalid" in done.out) == (1, True)
    assert done.err == f"it: 4 rows in the model: 4 added, 0 changed, 0 removed, 0 unchanged\n{TABLE}"
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


def test_reasons_of_all_rows_are_counted_where_not_all_rows_are_listed(shop: Shop, retl: Retl):
    shop.sync("it", THREE_BAD.format(bad=1030, rows=1031), strict=True, skip_on_invalid_records=True)
    by_reason = """\
  ... and 1,010 more rows; all of them by reason:
  rows   column  reason
  1,030  score   is NaN or infinite, which JSON cannot represent
  2      bio     is longer than 255 characters
  1      gender  is not one of M, F, O, N, P
"""
    assert f"  u1014  score   is NaN or infinite, which JSON cannot represent  {HINTS['score']}\n{by_reason}" in (
        retl("plan", "it", folder=shop.folder).out
    )
    assert retl("sync", "it", folder=shop.folder).err.endswith(by_reason)


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
    assert re.search(r"^  key +identifier +column +reason +hint$", shown, flags=re.MULTILINE)
    (result,) = json.loads(retl("sync", "it", "--output", "json", folder=shop.folder).out)
    assert whose(result["invalid_rows"]) == WHOSE
    assert whose(json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)) == WHOSE
    listed = retl("rejects", "it", folder=shop.folder).out
    assert re.search(r"^  [0-9a-f]{32}#1  external_id:u2 +added  invalid", listed, flags=re.MULTILINE)


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
    assert retl("rejects", "it", folder=shop.folder).out.split()[:2] == ["key", "kind"]


def test_person_is_erased_from_invalid_rows_whose_key_is_a_digest(shop: Shop, retl: Retl):
    shop.sync("it", OF_SEVERAL, **EVENTS).run()
    erased = retl("forget", "ann", "--yes", folder=shop.folder)
    assert erased_from(erased) == {"it": (0, 1, 0)}
