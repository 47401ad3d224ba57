"""What terminals show: colours, tables that fit, messages whose commands can be copied."""

import io
import re

import pytest
from rich.console import Console

from reverse_etl.report.screen import _Display
from reverse_etl.report.tables import folded, table_lines, without_spare
from reverse_etl.report.terminal import has_colours, painted
from reverse_etl.report.text import summary_line
from reverse_etl.runs.outcome import RunResult
from tests.shop import EVENTS, Retl, Shop
from tests.terminal import on_terminal

ROWS = (
    "SELECT 'u' || i AS external_id, CASE WHEN i = 1 THEN repeat('x', 300) ELSE 'short' END AS bio FROM range(3) r(i)"
)
COLOUR = re.compile(r"\x1b\[\d*m")
MOVES = re.compile(r"\x1b\[(?!\d*m)[^A-Za-z]*[A-Za-z]")  # of the cursor, by what shows progress


def widest(text: str) -> int:
    return max(len(COLOUR.sub("", line)) for line in text.splitlines())


@pytest.fixture
def invalid(shop: Shop) -> Shop:
    """Two syncs that have run, one of them with an invalid row, whose reason is long."""
    of_run = {"skip_on_invalid_records": True, "strict": True, "tags": ["hourly", "customers"]}
    shop.sync("people", ROWS, **of_run, description="profile attributes of customers, as marketing reads them")
    shop.sync("others", ROWS.replace("'u'", "'v'"), **of_run, schedule="*/15 * * * *")
    shop.run("people", "others")
    return shop


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "status", "history", "rejects", "show people"])
@pytest.mark.sampled(3)
def test_table_fits_a_terminal_of_80_columns(invalid: Shop, command: str):
    narrow = on_terminal(invalid.folder, 80, *command.split())
    assert widest(narrow) <= 80
    wide = on_terminal(invalid.folder, 80, *command.split(), "--wide")
    assert len(wide.splitlines()) <= len(narrow.splitlines())
    assert "without" not in wide


def test_status_leads_to_the_rows_that_are_not_in_braze(invalid: Shop, retl: Retl):
    said = retl("status", "people", folder=invalid.folder)
    assert said.out.splitlines()[1].split()[-4:] == ["2", "0", "1", "0"]
    assert "people: 1 row not in Braze, or not whole: `retl rejects people` says why, and what to do\n" in said.err


def test_table_that_is_no_terminals_is_whole(invalid: Shop, retl: Retl):
    heading = retl("history", folder=invalid.folder).out.splitlines()[0].split()
    assert heading == ["sync", "started", "status", "took", "rows", "accepted", "rejected", "in", "doubt", "to",
                       "send", "requests", "attributes", "run", "message"]  # fmt: skip


def test_columns_that_a_narrow_terminal_goes_without_are_named(invalid: Shop):
    shown = COLOUR.sub("", on_terminal(invalid.folder, 80, "history", "others"))
    heading, row, *said = shown.splitlines()
    assert heading.split() == ["sync", "started", "status", "accepted", "rejected", "in", "doubt", "to", "send"]
    assert "incomplete  2 " in row
    text = " ".join(line.strip() for line in said)
    assert text.endswith(
        "to fit 80 characters a line, without attributes, requests, run, took, rows; --wide shows all columns"
    )


def test_widest_columns_are_wrapped_between_words_and_identifiers_stay_whole():
    table = [
        ("key", "reason", "hint"),
        ("3f333df6-90a4-4fda-8dd3-9485d27cee36", "has more than 255 characters", "shorten it, or leave it out"),
        ("c-2", None, "none"),
    ]
    assert list(table_lines(table, 80)) == [
        "  key                                   reason               hint",
        "  3f333df6-90a4-4fda-8dd3-9485d27cee36  has more than 255    shorten it, or",
        "                                        characters           leave it out",
        "  c-2                                                        none",
    ]
    assert list(table_lines(table, 74)) == [
        "  key                                   reason            hint",
        "  3f333df6-90a4-4fda-8dd3-9485d27cee36  has more than     shorten it, or",
        "                                        255 characters    leave it out",
        "  c-2                                                     none",
    ]


def test_characters_that_need_two_columns_are_counted_as_two():
    assert list(table_lines([("name", "n"), ("\uace0\uac1d", 1), ("abcdef", 2)])) == [
        "  name    n",
        "  \uace0\uac1d    1",
        "  abcdef  2",
    ]


def test_columns_are_spared_in_their_order_and_empty_ones_first():
    table = [("a", "b", "c", "empty"), ("x" * 30, "y" * 30, "z" * 30, None)]
    assert without_spare(table, ("b", "c"), 110) == (table, [])
    assert without_spare(table, ("b", "c"), 100) == ([["a", "b", "c"], ["x" * 30, "y" * 30, "z" * 30]], [])
    assert without_spare(table, ("b", "c"), 80) == ([["a", "c"], ["x" * 30, "z" * 30]], ["b"])
    assert without_spare(table, ("b", "c"), 40) == ([["a"], ["x" * 30]], ["b", "c"])
    assert without_spare(table, ("b", "c"), 10) == (table, [])
    assert without_spare(table, ("b", "c"), None) == (table, [])


def test_table_that_does_not_fit_is_a_list_of_its_cells():
    table = [
        ("key", "status", "column", "reason", "hint"),
        ("c-1", "invalid", "bio", "is longer than 255 characters", "run `retl rejects users_track`, then shorten it"),
        ("c-2", "rejected", None, "no user", None),
    ]
    assert list(table_lines(table, 40)) == [
        "  key: c-1",
        "    status: invalid",
        "    column: bio",
        "    reason: is longer than 255",
        "      characters",
        "    hint: run",
        "      `retl rejects users_track`, then",
        "      shorten it",
        "  key: c-2",
        "    status: rejected",
        "    reason: no user",
    ]


def test_summary_says_how_long_the_command_took_and_not_what_its_syncs_add_up_to():
    """Syncs run side by side."""
    syncs = [RunResult(name, "users_track", "dev", "success", 0, duration_s=200) for name in ("people", "others")]
    assert summary_line(syncs, 226) == "2 syncs: 2 success; 0 rows accepted in 0 requests (3 min 46 s)"


def test_markdown_is_never_broken_as_its_rows_are_lines(invalid: Shop, retl: Retl):
    """However narrow the terminal is from which it is copied."""
    plan = ["plan", "others", "--output", "markdown"]
    shown = on_terminal(invalid.folder, 40, *plan)
    assert retl(*plan, folder=invalid.folder).out in shown
    assert widest(shown) > 100


COMMANDS = [
    *("ls", "status", "plan", "plan --show-values", "sync users_track orders merges --yes", "sync users_track"),
    *("status", "history", "rejects", "rejects merges", "show users_track", "flaps", "verify users_track"),
    *("why customer-1", "why customer-2 spent --show-values", "state show users_track", "debug", "run-due --dry-run"),
    *("test", "test --data", "resolve orders", "explain", "explain R003", "revert {run}", "revert {run} --show-values"),
    *("lock", "ls --nothing", "sync not-there", "plan gone", "docs generate", "run-due", "ls --help", "sync --help"),
]


@pytest.mark.long
@pytest.mark.parametrize("width", [80, 40])
def test_no_line_is_wider_than_the_terminal_unless_it_is_one_word(shop: Shop, width: int):
    """Whatever commands print: names and texts are as long as they are in projects."""
    shop.warehouse(CUSTOMERS)
    of_people = {"skip_on_invalid_records": True, "strict": True, "on_removed": "clear", "tags": ["hourly", "people"]}
    tests = [{"accepted_values": {"column": "bio", "values": ["short"]}}]
    shop.sync("users_track", "SELECT *, now() AS synced_at FROM dim_customers", **of_people, schedule="*/15 * * * *",
              description="profile attributes of customers, as marketing reads them", data_tests=tests)  # fmt: skip
    shop.sync("orders", "SELECT external_id, 'mug' AS product_id, 'EUR' AS currency, 3.5 AS price, now() AS time FROM dim_customers",
              **{**EVENTS, "track_record_type": "purchases"})  # fmt: skip
    shop.sync("merges", MERGES, mode="users_merge", allow_destructive=True, skip_on_invalid_records=True)
    shop.sync("gone", "SELECT * FROM a_table_that_is_not_there_any_more", **of_people)
    for _ in range(3):
        shop.run("users_track")
        shop.warehouse("UPDATE dim_customers SET spent = spent + 1")
    runs = COLOUR.sub("", on_terminal(shop.folder, 80, "history", "users_track", "--wide", environ={"TERM": "dumb"}))
    run = re.findall(r"\d{8}T\d{6}-\w+", runs)[0]
    for command in COMMANDS:
        shown = on_terminal(shop.folder, width, *command.format(run=run).split(), environ={"TERM": "dumb"})
        assert [line for line in shown.splitlines() if len(line) > width and not is_one_word(line)] == [], command


CUSTOMERS = """CREATE TABLE dim_customers AS SELECT 'customer-' || i AS external_id, i AS spent,
    if(i = 3, repeat('x', 300), 'short') AS bio, 'mina.kim.' || i || '@example.com' AS email FROM range(6) r(i)"""
MERGES = """SELECT 'an-old-identifier-of-a-customer-' || i AS external_id,
        'the-identifier-of-a-customer-that-stays-' || i AS keep_external_id FROM range(3) r(i)
    UNION ALL SELECT 'same', 'same' UNION ALL SELECT 'the-identifier-of-a-customer-that-stays-1', NULL"""


def is_one_word(line: str) -> bool:
    """A key with the sign before it, or a command: what is copied is not broken."""
    return re.fullmatch(r"\s*([+~-] |\w+: )?(\S+|\S*`[^`]*`\S*)", line) is not None


# --- messages --------------------------------------------------------------------------------------------------------


def test_command_in_a_hint_is_never_broken():
    hint = "  hint: to see which rows, run `retl rejects users_track --target prod --show-values`, then correct them"
    assert folded(hint, 60) == (
        "  hint: to see which rows, run\n"
        "    `retl rejects users_track --target prod --show-values`,\n"
        "    then correct them"
    )
    assert folded(hint, 200) == hint


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (
            "ok    model of users: 2 columns, primary key: external_id",
            ["ok    model of users: 2 columns, primary", "      key: external_id"],
        ),
        (
            "  + 0 added   ~ 7 changed   - 0 removed   0 unchanged",
            ["  + 0 added   ~ 7 changed   - 0 removed", "    0 unchanged"],
        ),
        ("users: 2,000 rows in the model:  2,000 added", ["users: 2,000 rows in the model:  2,000", "  added"]),
    ],
    ids=["a label", "counts", "words"],
)
def test_blanks_between_words_are_kept_where_a_line_is_broken(line: str, lines: list[str]):
    assert folded(line, 40).split("\n") == lines


def test_error_on_a_narrow_terminal_is_broken_between_words(shop: Shop):
    shop.sync("it", ROWS)
    shown = on_terminal(shop.folder, 60, "sync", "that-name-is-not-the-name-of-any-sync-here")
    assert COLOUR.sub("", shown) == (
        'no sync matches "that-name-is-not-the-name-of-any-sync-here"\n  [P071]\n  hint: one of: it\n'
    )


# --- colours ---------------------------------------------------------------------------------------------------------


def test_changes_and_statuses_have_colours_on_a_terminal(shop: Shop):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(2) r(i)", on_removed="clear")
    shop.run("it")
    shop.sync("it", "SELECT 'u' || i AS external_id, i * 10 AS n FROM range(1, 3) r(i)", on_removed="clear")
    shown = MOVES.sub("", on_terminal(shop.folder, 80, "plan", "it", "--show-values"))
    assert shown[shown.index("it (") :].splitlines()[1:8] == [
        "  \x1b[32m+ 1 added\x1b[0m   \x1b[33m~ 1 changed\x1b[0m   \x1b[31m- 1 removed\x1b[0m   0 unchanged",
        "  blocked: a run would send none of this",
        "  removed rows: on_removed: clear",
        "  columns: n 3",
        "\x1b[32m  + u2\x1b[0m",
        "      n: 20",
        "\x1b[33m  ~ u1\x1b[0m",
    ]
    status = on_terminal(shop.folder, 80, "status")
    assert "it    \x1b[32msuccess\x1b[0m" in status
    failed = on_terminal(shop.folder, 80, "sync", "nothing")
    assert failed.startswith('\x1b[31mno sync matches "nothing" [P071]\x1b[0m\n\x1b[36m  hint:\x1b[0m one of: it\n')


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "stream", "expected"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, io.StringIO(), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, Terminal(), False),
    ],
)
def test_who_wants_no_colours_gets_none(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], stream: io.StringIO, expected: bool
):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environ}.items():
        monkeypatch.setenv(name, value)
    assert has_colours(stream) is expected
    assert ("\x1b" in painted("it: success", stream)) is expected


def test_output_for_programs_has_no_colours(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shop.sync("it", ROWS)
    shop.run("it")
    for words in (["status", "--output", "json"], ["history", "--output", "csv"], ["compile", "it"], ["show", "it"]):
        shown = retl(*words, folder=shop.folder)
        assert (shown.code, "\x1b" in shown.out) == (0, False), words


def test_forced_colours_force_no_progress(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS n")
    done = retl("sync", "it", folder=shop.folder)
    assert done.err == "it: 1 row in the model: 1 added, 0 changed, 0 removed, 0 unchanged\n"
    assert done.out.startswith("it: \x1b[32msuccess\x1b[0m, 1 of 1 row accepted")


# --- several syncs ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_several_syncs_end_with_one_table(invalid: Shop, retl: Retl):
    invalid.sync("third", "SELECT 'w' AS external_id, 1 AS n")
    done = retl("sync", "--all", folder=invalid.folder)
    steady = re.sub(r"\d+\.\d s", "0.0 s", done.err)
    assert steady.splitlines()[-5:-1] == [
        "  sync    status      accepted  of  requests  invalid  took",
        "  people  incomplete  0         0   0         1        0.0 s",
        "  others  incomplete  0         0   0         1        0.0 s",
        "  third   success     1         1   1         0        0.0 s",
    ]
    assert "accepted  of" not in retl("sync", "third", folder=invalid.folder).err


# --- plans -----------------------------------------------------------------------------------------------------------


def test_plan_of_purchases_shows_what_is_bought(shop: Shop, retl: Retl):
    sql = """SELECT 'o' || i AS order_id, 'u1' AS external_id, CASE WHEN i = 1 THEN 'cap' ELSE 'shirt' END AS product_id,
        'EUR' AS currency, 9.5 * i AS price, TIMESTAMPTZ '2026-11-25 08:00:00Z' AS time FROM range(1, 4) r(i)"""
    shop.sync("bought", sql, track_record_type="purchases", primary_key="order_id")
    shown = retl("plan", "bought", "--show-values", folder=shop.folder).out.splitlines()
    assert shown[2:9] == [
        "  products: shirt 2, cap 1",
        "  + o1",
        "      external_id: u1",
        "      product_id: cap",
        "      currency: EUR",
        "      price: 9.5",
        "      time: 2026-11-25T08:00:00.000Z",
    ]
    masked = retl("plan", "bought", folder=shop.folder).out
    assert ("shirt" in masked, "      product_id: ***" in masked) == (False, True)


def test_plan_says_why_it_costs_other_than_a_data_point_an_attribute(shop: Shop, retl: Retl):
    def cost(values: str) -> str:
        shop.sync("it", f"SELECT 'u1' AS external_id, {values}", pre_formatted_fields=["size"] if "{" in values else [])
        return retl("plan", "it", folder=shop.folder).out.splitlines()[-1].strip()

    of = "on contracts billed by data points"
    assert cost("1 AS n, 2 AS size") == f"writes 2 attributes: 2 data points {of}"
    assert cost("""1 AS n, '{"foot": 42, "head": 58}' AS size""") == (
        f"writes 2 attributes: 3 data points {of} "
        "(an object costs 1 for each key, an array 1 for each value added or removed)"
    )
    assert cost("1 AS size, 'https://example.com/a.png' AS image_url") == (
        f"writes 2 attributes: 1 data point {of} (some fields are free)"
    )


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "ls", "status", "rejects", "history"])
@pytest.mark.sampled(3)
def test_commands_take_names_and_selectors_alike_and_without_them_all(invalid: Shop, retl: Retl, command: str):
    def named(*arguments: str) -> set[str]:
        shown = retl(command, *arguments, folder=invalid.folder)
        assert shown.code in (0, 1), shown.err
        return {name for name in ("people", "others") if re.search(rf"\b{name}\b", shown.out)}

    assert named() == {"people", "others"}
    assert named("others") in ({"others"}, set())  # a table of one sync does not repeat its name
    assert named("--select", "tag:hourly", "--exclude", "others") <= {"people"}
    assert retl(command, "--select", "tag:nothing", folder=invalid.folder).code == 2


@pytest.mark.parametrize(("width", "shown"), [(80, "30000/300000 980 rows/s, 13 requests/s"), (40, "30000/300000")])
def test_numbers_of_what_is_sent_are_whole_on_a_narrow_terminal(width: int, shown: str):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    display = _Display(console)
    display.add_task("users", total=300_000, completed=30_000, rates="980 rows/s, 13 requests/s", waiting="")
    console.print(display.get_renderable())
    assert isinstance(console.file, io.StringIO)
    assert f"users  {shown}" in console.file.getvalue()


def test_hints_of_rejected_rows_are_shown_on_narrow_terminals(shop: Shop):
    shop.sync("it", "SELECT 'u' || i AS external_id, repeat('x', 300) AS bio FROM range(5) r(i)", strict=True)
    shop.run()
    for columns in (50, 80, 120):
        shown = " ".join(COLOUR.sub("", on_terminal(shop.folder, columns, "rejects")).split())
        assert ("hint" in shown, "u0, u1, u2" in shown, shown.count("truncate it:")) == (True, True, 1)
