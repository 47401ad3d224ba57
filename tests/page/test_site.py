"""The page of a project in a browser: what people ask of it, in at most two clicks from its first page."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from reverse_etl.report.site.page import assets, page
from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.site import collect
from reverse_etl.runs.site_facts import SiteEvent
from reverse_etl.sandbox import Sandbox
from tests.page.conftest import OpenPage
from tests.runs.test_site import large
from tests.shop import EVENTS, Shop

LOCK = "version: 1\nevents:\n  seen: {pages: number}\n"
TIERS = """SELECT external_id, if(external_id < 'u3', 'gold', NULL) AS tier, spent, 'pro' AS plan FROM {{ source('main', 'dim_customers') }}"""
COLUMNS = [
    {"name": "tier", "description": "level in the loyalty program", "owner": "Loyalty"},
    {"name": "plan", "show_values": True},
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A shop after some runs: `tiers` has a row that is invalid by now, `orders` ran twice."""
    folder = tmp_path_factory.mktemp("site")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("1234567890" * 4)
    with Sandbox() as braze:
        shop = Shop(folder, braze)
        shop.warehouse("CREATE TABLE dim_customers AS SELECT 'u' || i AS external_id, i AS spent FROM range(6) r(i)")
        tests = [{"accepted_values": {"column": "tier", "values": ["gold", "silver"]}}]
        shop.sync("tiers", TIERS, owner="CRM", columns=COLUMNS, data_tests=tests, schedule="@hourly")
        shop.sync("orders", "SELECT 'u1' AS external_id, 'mug' AS product_id, 'EUR' AS currency, 3.5 AS price, TIMESTAMP '2026-11-23' AS time", **{**EVENTS, "track_record_type": "purchases"}, description="what was bought")  # fmt: skip
        shop.sync("views", "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, 3 AS pages", **EVENTS)  # fmt: skip
        shop.sync("gone", "SELECT 'u9' AS external_id", mode="users_delete", allow_destructive=True)
        (folder / "braze.lock.yml").write_text(LOCK)
        text = (folder / "models/orders.sql").read_text()
        shop.model("orders", "SELECT * FROM nowhere")
        shop.run("orders")
        shop.model("orders", text)
        shop.run_all("tiers", "orders", "views")
        shop.warehouse("UPDATE dim_customers SET spent = spent + 1")
        shop.run_all("tiers", "orders")
        shop.warehouse("INSERT INTO dim_customers VALUES ('', 5)")
        shop.run("tiers")
        made = folder / "index.html"
        made.write_text(page(collect(shop.project(), HowToLook(30, 1, datetime.now(UTC)), "1.0"), assets()))
        yield made


@pytest.fixture
def tab(open_page: OpenPage, file: Path) -> Iterator[Page]:
    """The first page. Whatever it complains about fails the test, and so does whatever it would load."""
    yield from opened(open_page(viewport={"width": 1280, "height": 900}), file)


def opened(tab: Page, file: Path) -> Iterator[Page]:
    complaints, asked = list[Any](), list[str]()
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    tab.goto(file.as_uri())
    yield tab
    assert complaints == []
    assert asked == [file.as_uri()]


def click(tab: Page, *names: str) -> None:
    for name in names:
        tab.get_by_role("link", name=re.compile(name)).first.click()


def fact(tab: Page, name: str) -> Any:
    return tab.locator(".facts > div", has=tab.locator("dt", has_text=re.compile(f"^{name}"))).locator("dd")


# What is asked, what is clicked on, and where the answer is.
QUESTIONS = [
    ("which attributes exist", [], "main", "tier"),
    ("what does tier mean", ["^tier$"], ".lead", "level in the loyalty program"),
    ("who owns it", ["^tier$"], ".facts", "Loyalty"),
    ("where does it come from", ["^tier$"], ".graph", "main.dim_customers"),
    ("how fresh is it", ["^tier$"], "table", "UTC"),
    ("how many have it", ["^tier$"], "table", "50.0 %"),
    ("which values", ["^tier$"], ".facts", "gold, silver"),
    ("which values of plan", ["^plan$"], "tbody", "pro"),
    ("when did spent last change", ["^spent$"], ".facts", "UTC"),
    ("what did spent cost", ["^spent$"], ".facts", "6 values"),
    ("what is a data point", ["^spent$"], "main", "A data point is what Braze counts"),
    ("what did all changes of a sync cost", ["^tiers$"], ".facts", "data points of changes in 30 days6"),
    ("which syncs write to people", ["^Syncs"], "tbody tr", "users_track / attributesusers"),
    ("which delete", ["^What deletes"], "main", "deletes users"),
    ("when did orders last run, and before", ["^orders$"], "main", "purchases"),
    ("why is it not green", ["^Not green"], "main", "1 of 7 rows is invalid, so nothing was sent"),
    ("what was refused", ["^tiers$"], "main", "external_id"),
    ("what is due next", ["^What is due next"], "main", "tiers"),
    ("how old is the page", [], ".lead", "ago"),
    ("which events, with which properties", ["^Events"], "main", "pages number"),
    ("what does a property mean", ["^Events", "^pages$"], ".crumb", "views"),
    ("who is asked about an event", ["^Events", "^seen$"], "tbody", "nobody"),
    ("when was an event sent last", ["^Events", "^seen$"], "tbody", "the last run of the sync that sent something: 20"),
    ("was it that event", ["^Events", "^seen$"], "tbody", "it sends no other event now"),
    ("which purchases", ["^Events"], "main", "purchases: what was bought is a value of its rows"),
    ("what changed on a day", ["^What changed on a day", "day, 20"], "main", "spent 6"),
    ("from which commit", ["^What changed on a day", "day, 20"], "main", "1234567890"),
    (
        "what failed on a day, by now or not",
        ["^What changed on a day", "day, 20"],
        "main",
        "SQL error [P051] in models/orders.sql:1",
    ),
    ("which attribute changes most", ["^What changes most"], "tbody tr:first-child", "spent"),
    ("what reads dim_customers", ["^Sources", "dim_customers"], "main", "tiers"),
    ("which syncs nobody owns", ["^Nobody owns"], "main", "orders"),
]


def test_each_question_has_its_answer_within_two_clicks(tab: Page):
    for question, clicks, place, answer in QUESTIONS:
        assert len(clicks) <= 2, question
        tab.goto(f"{tab.url.split('#')[0]}#/")
        click(tab, *clicks)
        expect(tab.locator(place).filter(has_text=answer).first, question).to_be_visible()


def test_numbers_that_are_not_known_are_shown_as_unknown_with_why(open_page: OpenPage, tmp_path: Path):
    small = large(1, 1, 0)
    why = "cannot use .retl/prod/sync_000: it is damaged\nhint: restore it"
    unknown: dict[str, Any] = dict.fromkeys(("rows", "rejected", "in_doubt", "to_send", "written"))
    column = replace(small.syncs[0].columns[0], filled=None, changes=0, data_points=0, changed_at=None)
    sync = replace(small.syncs[0], status="damaged", message=why, columns=[column], **unknown)
    file = tmp_path / "index.html"
    file.write_text(page(replace(small, syncs=[sync]), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        expect(tab.locator("h2:has-text('Syncs') + .card tbody td.number")).to_have_text("unknown")
        click(tab, "^Not green")
        expect(tab.locator("tbody td.number")).to_have_text(["unknown"] * 3)
        expect(tab.locator("tbody")).to_contain_text("it is damagedhint: restore it")
        click(tab, "^sync_000")
        for name in ("acknowledged", "not in Braze, or not whole", "in doubt", "attributes written", "data points"):
            expect(fact(tab, name)).to_have_text("unknown")
        expect(tab.locator("main")).to_contain_text("Its runs are not known: its state cannot be read now.")
        click(tab, "^attr_000_000")
        for name in ("last change", "changes of the last", "data points", "changes too often", "values"):
            expect(fact(tab, name)).to_have_text("unknown")


@pytest.mark.parametrize(
    ("named", "unnamed", "short", "said"),
    [
        (0, 0, "0", "0 events;"),
        (2, 0, "2", "2 events;"),
        (0, 1, "?", "events of 1 sync with unknown names;"),
        (1, 2, "1 +", "1 event, and those of 2 syncs with unknown names;"),
    ],
)
def test_events_whose_names_are_not_known_are_not_counted_as_none(
    open_page: OpenPage, tmp_path: Path, named: int, unnamed: int, short: str, said: str
):
    known = large(1 + unnamed, 1, 1)
    of_events = [replace(sync, mode="users_track / events") for sync in known.syncs[1:]]
    events = [SiteEvent(f"e{number}", {}, [known.syncs[0].name]) for number in range(named)]
    file = tmp_path / "index.html"
    file.write_text(page(replace(known, syncs=[known.syncs[0], *of_events], events=events), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        expect(tab.locator(".lead")).to_contain_text(said)
        expect(tab.locator("nav b").nth(1)).to_have_text(short)
        click(tab, "^Events")
        expect(tab.locator("tbody tr")).to_have_count(named + unnamed)


def test_run_whose_starter_is_not_known_says_nothing_of_it(open_page: OpenPage, tmp_path: Path):
    known = large(1, 1, 1)
    first = known.syncs[0]
    runs = [replace(first.runs[0], started_by=by) for by in ("", "ann on crm-1")]
    file = tmp_path / "index.html"
    file.write_text(page(replace(known, syncs=[replace(first, runs=runs)]), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        tab.goto(f"{file.as_uri()}#/runs")
        click(tab, "day, 20")
        expect(tab.locator('td[data-head="by"]')).to_have_text(["", "ann on crm-1"])


def test_first_page_has_what_is_overdue_and_says_how_many_are_due_besides(open_page: OpenPage, tmp_path: Path):
    at = datetime.now(UTC)
    overdue = [{"due_since": at - timedelta(hours=one)} if one < 7 else {} for one in range(20)]
    known = large(20, 1, 1)
    syncs = [
        replace(sync, next_due=at + timedelta(hours=1), **one) for sync, one in zip(known.syncs, overdue, strict=True)
    ]
    file = tmp_path / "index.html"
    file.write_text(page(replace(known, syncs=[*syncs[7:], *syncs[:7]]), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        rows = tab.locator("h2:has-text('Next') + .card tbody tr")
        expect(rows).to_have_count(7)
        expect(rows.first).to_contain_text("sync_006due since")
        click(tab, "and 13 more")
        expect(tab.locator("tbody tr")).to_have_count(20)


def test_sync_that_is_overdue_is_not_green_and_the_others_say_nothing_of_it(open_page: OpenPage, tmp_path: Path):
    known, late = large(3, 1, 1), datetime(2026, 11, 18, tzinfo=UTC)
    first = replace(known.syncs[0], due_since=late, is_overdue=True)
    other = replace(known.syncs[1], status="incomplete", message="", rejected=1, lost=[("withheld", 1)])
    file = tmp_path / "index.html"
    file.write_text(page(replace(known, syncs=[first, other, known.syncs[2]]), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        click(tab, "^Not green")
        expect(tab.locator("tbody tr")).to_have_count(2)
        said = "successoverdue000overdue since 2026-11-18 00:00 UTC"
        expect(tab.locator("tbody tr").first).to_have_text(
            re.compile(said.replace("successoverdue", "success ?overdue"))
        )
        expect(tab.locator('td[data-head="why"]').last).to_have_text("")
        expect(tab.locator('td[data-head="not in Braze, or not whole"]')).to_have_text(["0", "1 withheld"])


def test_search_is_done_with_the_keyboard(tab: Page):
    tab.keyboard.press("/")
    expect(tab.get_by_role("combobox")).to_be_focused()
    tab.keyboard.type("loyalty")
    expect(tab.get_by_role("option")).to_have_text(["tier attribute: level in the loyalty program"])
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text("tier")
    tab.keyboard.press("/")
    tab.keyboard.type("orders")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    expect(tab).to_have_url(re.compile("#/sources/model.orders$"))
    tab.go_back()
    expect(tab.get_by_role("heading", level=1)).to_have_text("tier")


def test_run_is_reached_from_its_strip(tab: Page):
    tab.goto(f"{tab.url.split('#')[0]}#/syncs/tiers")
    tab.locator(".strip a").nth(1).click()
    expect(tab.get_by_role("heading", level=1)).to_contain_text("success")
    expect(fact(tab, "accepted")).to_have_text("6")
    expect(fact(tab, "requests")).to_have_text("1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_is_not_scrolled_sideways(open_page: OpenPage, file: Path, scheme: Any):
    for tab in opened(open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme), file):
        for view in ("#/", "#/attributes/tier", "#/syncs/tiers", "#/runs", "#/sources", "#/events", "#/nothing"):
            tab.goto(f"{file.as_uri()}{view}")
            expect(tab.get_by_role("heading", level=1)).to_be_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_rows_of_tables_are_stacked_on_a_narrow_screen_with_nothing_out_of_sight(open_page: OpenPage, file: Path):
    for tab in opened(open_page(viewport={"width": 390, "height": 844}), file):
        for view in ("#/", "#/ill", "#/runs", "#/syncs/tiers", "#/attributes/tier"):
            tab.goto(f"{file.as_uri()}{view}")
            cells = tab.locator("tbody td:visible")
            expect(cells.first).to_be_visible()
            beyond = "(cells) => cells.filter((one) => one.getBoundingClientRect().right > innerWidth).length"
            assert cells.evaluate_all(beyond) == 0, view
        tab.goto(f"{file.as_uri()}#/ill")
        head = "(one) => getComputedStyle(one, '::before').content"
        assert "why" in tab.locator("tbody td").last.evaluate(head)


def test_large_project_is_painted_within_a_second(open_page: OpenPage, tmp_path: Path):
    file = tmp_path / "index.html"
    file.write_text(page(large(), assets()), encoding="utf-8")
    for tab in opened(open_page(), file):
        expect(tab.get_by_role("heading", level=1)).to_have_text("shop")
        entries = "performance.getEntriesByName('first-contentful-paint')"
        tab.wait_for_function(f"{entries}.length")
        assert tab.evaluate(f"{entries}[0].startTime") < 1000
        tab.keyboard.press("/")
        tab.keyboard.type("attr_199_299")
        expect(tab.get_by_role("option")).to_have_text(["attr_199_299 attribute"])
