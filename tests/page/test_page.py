"""The sandbox's page in a browser."""

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from reverse_etl.sandbox import Sandbox
from reverse_etl.sandbox.schema import connect
from tests.page.conftest import OpenPage
from tests.sandbox.test_sandbox_page import fill

KEY = {"Authorization": "Bearer sandbox"}
SCRIPT = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


def track(braze: Sandbox, **arrays: Any) -> None:
    requests.post(f"{braze.url}/users/track", json=arrays, headers=KEY)


@pytest.fixture(autouse=True)
def people(braze: Sandbox) -> None:
    """#1 makes c-1 and c-2, #2 changes c-1's tier, #3 has a rejected and a dropped object."""
    both = [{"external_id": f"c-{n}", "email": f"mina{n}@example.com", "tier": "silver", "orders": n} for n in (1, 2)]
    track(braze, attributes=both)
    track(braze, attributes=[{"external_id": "c-2", "tier": "basic"}, {"external_id": "c-1", "tier": "gold"}])
    track(braze, attributes=[{"external_id": "c-1"}, {"tier": "nobody's"}, {"external_id": "c-2", "gender": "robot"}])


def test_user_is_searched_and_a_value_followed_to_its_request(page: Page):
    page.goto("/")
    page.get_by_label("Search users").fill("mina1@")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="c-1").click()
    expect(page).to_have_url(re.compile("#/users/c-1$"))
    row = page.get_by_role("row", name="tier")
    expect(row).to_contain_text('"gold"')
    row.get_by_role("link", name="#2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("#2 POST /users/track")
    marked = page.locator(".json .exact")
    expect(marked).to_have_text('"tier": "gold"', use_inner_text=False)
    expect(marked).to_be_in_viewport()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("c-1")
    page.go_back()
    expect(page.get_by_label("Search users")).to_have_value("mina1@")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_refused_and_dropped_objects_stand_out_in_the_body(page: Page):
    page.goto("/#/requests/3")
    rejected = page.locator(".json .row.rejected")
    expect(rejected.first).to_have_text(
        "✗ rejected: 'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required", use_inner_text=False
    )
    assert [text.strip() for text in rejected.all_text_contents()[1:]] == ["{", '"tier": "nobody\'s"', "},"]
    expect(page.locator(".json .row.note.dropped")).to_have_text("△ gender dropped: not one of M, F, O, N, P")


def test_errors_and_silent_drops_lead_to_their_request(page: Page):
    page.goto("/#/errors")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("1 rejected")
    page.goto("/#/drops")
    expect(page.locator("tbody tr")).to_contain_text("not one of M, F, O, N, P")
    page.get_by_role("link", name="#3").click()
    expect(page.locator(".json .origin").first).to_be_in_viewport()


def test_everything_can_be_done_with_the_keyboard(page: Page):
    page.goto("/#/requests")
    expect(page.locator("tbody tr")).to_have_count(3)
    for key in ("j", "j", "k", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="#2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("#2 POST /users/track")
    page.keyboard.press("Escape")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_role("link", name="#2")).to_be_focused()
    page.keyboard.press("u")
    expect(page.get_by_label("Search users")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Search users")).to_be_focused()
    page.keyboard.type("c-2")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("c-2")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_have_text("c-2")


def test_text_of_a_client_is_never_run(page: Page, braze: Sandbox):
    track(
        braze,
        attributes=[{"external_id": SCRIPT, "first_name": SCRIPT, SCRIPT: SCRIPT, "nested": {SCRIPT: [SCRIPT]}}],
        events=[
            {"external_id": SCRIPT, "name": SCRIPT, "time": "2026-11-23T00:00:00Z", "properties": {SCRIPT: SCRIPT}}
        ],
    )
    requests.post(f"{braze.url}/{SCRIPT}", data=SCRIPT, headers={"Authorization": f"Bearer {SCRIPT}"})
    page.goto("/")
    page.get_by_role("link", name=SCRIPT).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(SCRIPT)
    for view in ("#/requests", "#/requests/4", "#/requests/5", "#/errors"):
        page.goto(f"/{view}")
        expect(page.locator("main")).to_contain_text("<script>" if "4" in view else "script")
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert page.title() != "run"


def test_counts_and_lists_follow_what_comes_in(page: Page, braze: Sandbox):
    page.goto("/#/requests")
    expect(page.locator("tbody tr")).to_have_count(3)
    track(braze, attributes=[{"external_id": "c-3", "tier": "new"}])
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("nav [data-sum=users]")).to_have_text("3")


def test_row_in_hand_stays_and_a_button_says_what_is_new(page: Page, braze: Sandbox):
    page.goto("/#/requests")
    expect(page.locator("nav [data-sum=requests]")).to_have_text("3")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="#3")).to_be_focused()
    track(braze, attributes=[{"external_id": "c-3", "tier": "new"}])
    page.get_by_role("button", name="1 new").click()
    expect(page.locator("tbody tr")).to_have_count(4)


def test_faults_are_added_and_cleared(page: Page, braze: Sandbox):
    page.goto("/#/faults")
    page.get_by_label("New fault").fill("status:status=503,times=2")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert requests.post(f"{braze.url}/users/track", json={}, headers=KEY).status_code == 503
    expect(page.locator("tbody td.number")).to_have_text("1")
    page.get_by_label("New fault").fill("nonsense")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert").last).to_contain_text("unknown fault 'nonsense'")
    page.get_by_role("button", name="Clear all faults").click()
    expect(page.get_by_text("No active faults")).to_be_visible()


def test_probes_stand_apart_from_errors(page: Page, braze: Sandbox):
    track(braze)
    page.goto("/#/requests")
    row = page.get_by_role("row", name="#4")
    expect(row).to_contain_text("probe")
    expect(row.locator(".bad")).to_have_count(0)
    expect(page.locator("nav [data-sum=errors]")).to_have_text("1")
    page.goto("/#/errors")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_each_tab_has_its_count(page: Page):
    page.goto("/")
    counts = {"Users": 2, "Requests": 3, "Errors": 1, "Silent drops": 1, "Catalogs": 0, "Faults": 0}
    expect(page.locator("nav a")).to_have_text([f"{name} {count}" for name, count in counts.items()])
    expect(page.locator("#totals span").first).to_have_text("0 events")


def test_catalogs_lead_to_items_and_their_values_to_requests(page: Page, braze: Sandbox):
    fields = [
        {"name": "id", "type": "string"},
        {"name": "title", "type": "string"},
        {"name": "price", "type": "number"},
    ]
    requests.post(f"{braze.url}/catalogs", json={"catalogs": [{"name": "products", "fields": fields}]}, headers=KEY)
    items = [{"id": f"p-{n}", "title": f"Mug {n}"} for n in range(12)]
    requests.put(f"{braze.url}/catalogs/products/items", json={"items": items}, headers=KEY)
    page.goto("/")
    page.keyboard.press("c")
    page.get_by_role("link", name="products").click()
    expect(page.locator("tbody tr")).to_have_count(12)
    expect(page.locator("main")).to_contain_text("price number")
    page.get_by_label("Search items").fill("p-7")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="p-7").click()
    expect(page.get_by_role("row", name="title")).to_contain_text('"Mug 7"')
    expect(page.locator("main")).to_contain_text("No value: price.")
    page.get_by_role("link", name="#5").click()
    expect(page.locator(".json .exact")).to_have_text('"id": "p-7",', use_inner_text=False)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Search items")).to_have_value("p-7")


def test_times_are_written_in_one_way_with_their_zone(open_page: OpenPage, braze: Sandbox):
    """Wherever the browser is."""
    event = {"external_id": "c-1", "name": "seen", "time": "2026-11-23T01:00:00+09:00"}
    track(braze, events=[event])
    tab = open_page(base_url=braze.url, timezone_id="Asia/Seoul")
    for view, rows in (("users", 2), ("users/c-1", 1), ("requests", 4), ("requests/3", 1)):
        tab.goto(f"/#/{view}")
        expect(tab.locator("main time").nth(rows - 1)).to_be_visible()
        shown = [" ".join(text.split()) for text in tab.locator("main time").all_inner_texts()]
        assert [text for text in shown if not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text)] == []
    tab.goto("/#/users/c-1")
    expect(tab.get_by_role("row", name="seen").locator("time")).to_have_text("2026-11-22 16:00:00 UTC")


def test_sums_cover_no_row_and_all_tabs_are_in_sight(open_page: OpenPage, braze: Sandbox):
    for width in (1280, 390):
        tab = open_page(viewport={"width": width, "height": 300}, base_url=braze.url)
        tab.goto("/#/requests")
        tab.locator("tbody tr").last.scroll_into_view_if_needed()
        assert tab.evaluate(COVERED) == []
        assert tab.evaluate(OUT_OF_SIGHT) == []
        tab.close()


def test_columns_of_requests_are_narrow_on_a_narrow_screen(open_page: OpenPage, braze: Sandbox):
    """A path is broken before a slash, not in a word, and what was rejected is below it."""
    tab = open_page(viewport={"width": 390, "height": 800}, base_url=braze.url)
    tab.goto("/#/requests")
    row = tab.get_by_role("row", name="#3")
    expect(row).to_contain_text("1 rejected")
    assert row.locator("code").evaluate("(one) => new Set([...one.getClientRects()].map((at) => at.top)).size") == 1
    expect(tab.locator("thead th").filter(visible=True)).to_have_text(["#", "Endpoint", "Response"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(open_page: OpenPage, braze: Sandbox, scheme: Any):
    """WCAG AA: 4.5 to 1, of every colour that text has on what it stands on."""
    tab = open_page(color_scheme=scheme, base_url=braze.url)
    tab.goto("/#/requests/3")
    expect(tab.locator(".json .rejected").first).to_be_visible()
    expect(tab.locator("nav [data-sum=requests]")).to_have_text("3")
    found = tab.evaluate(CONTRAST)
    assert len(found) > 5
    assert [one for one in found if one["ratio"] < 4.5] == []


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("#/users", "mina2@example.com"),
        ("#/users/c-1", '"gold"'),
        ("#/requests", "/users/track"),
        ("#/requests/3", "nobody's"),
        ("#/drops", "not one of M, F, O, N, P"),
        ("#/catalogs", "No catalogs"),
        ("#/faults", "No active faults"),
    ],
)
def test_narrow_screen_does_not_scroll_sideways(open_page: OpenPage, braze: Sandbox, view: str, shown: str):
    tab = open_page(viewport={"width": 360, "height": 700}, base_url=braze.url)
    tab.goto(f"/{view}")
    expect(tab.locator("main")).to_contain_text(shown)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_body_of_four_megabytes_does_not_freeze_the_page(page: Page, braze: Sandbox):
    """Of its 58,000 lines it makes those that are looked at."""
    big = [{"external_id": f"u{n}", **{f"attribute_{k}": "x" * 40 for k in range(900)}} for n in range(65)]
    body = json.dumps({"attributes": [*big, {"plan": "rejected"}]})
    assert 3_500_000 < len(body) < 4_000_000
    requests.post(f"{braze.url}/users/track", data=body, headers=KEY)
    page.goto("/#/requests/4")
    expect(page.locator(".json .row.rejected.note")).to_be_in_viewport()
    assert page.locator(".json .row").count() < 5_000


def test_a_hundred_thousand_users(open_page: OpenPage, tmp_path: Path):
    """One page of them is asked for and made; `test_sandbox_page.py` holds what that reads to the same for any number."""
    path = tmp_path / "braze.sqlite"
    with closing(connect(path)) as db:
        fill(db, 100_000)
    with Sandbox(path) as braze:
        tab, asked = open_page(base_url=braze.url), list[str]()
        tab.on("request", lambda request: asked.append(request.url.removeprefix(braze.url)))
        tab.goto("/")
        expect(tab.locator("tbody tr")).to_have_count(50)
        expect(tab.locator("nav [data-sum=users]")).to_have_text("100,000")
        assert len([path for path in asked if path.startswith("/_sandbox/users")]) == 1
        tab.get_by_label("Search users").fill("user54321@")
        expect(tab.locator("tbody tr")).to_have_count(1)
        expect(tab.locator("tbody tr")).to_contain_text("u54321")
        tab.close()


COVERED = """() => {
  const { left, top, width, height } = [...document.querySelectorAll("tbody tr")].at(-1).getBoundingClientRect();
  const at = [.1, .5, .9].map((part) => document.elementFromPoint(left + width * part, top + height / 2));
  return at.filter((one) => !one.closest("tbody")).map((one) => one.outerHTML);
}"""
OUT_OF_SIGHT = """() => [...document.querySelectorAll("nav a")].filter((one) => {
  const { left, right } = one.getBoundingClientRect();
  return left < 0 || right > innerWidth || document.elementFromPoint((left + right) / 2, one.getBoundingClientRect().top + 5) !== one;
}).map((one) => one.textContent)"""
CONTRAST = """() => {
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const read = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return { rgb: n.slice(0, 3), alpha: n[3] ?? 1 }; };
  const behind = (one) => { for (; one; one = one.parentElement) { const c = read(getComputedStyle(one).backgroundColor); if (c.alpha === 1) return c.rgb; } return [255, 255, 255]; };
  const found = new Map();
  for (const one of document.querySelectorAll("body *")) {
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || !one.checkVisibility()) continue;
    const [text, back] = [read(getComputedStyle(one).color).rgb, behind(one)];
    const [high, low] = [light(text), light(back)].sort((a, b) => b - a);
    found.set(`${text} on ${back}`, { what: `${one.tagName}.${one.className}`, ratio: (high + .05) / (low + .05) });
  }
  return [...found.values()];
}"""
