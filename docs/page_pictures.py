"""Pictures of the page that `retl docs generate` writes, of the demo shop after four days: `make pictures`.

    python -m docs.page_pictures             docs/page-*.png
    python -m docs.page_pictures FOLDER      every page, at 1280 and 390 pixels, light and dark, to be looked at

Times, durations and names of runs, and who started them, are those of an example: the same code draws the same pictures
on machines with the same Chromium and fonts.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
from playwright.sync_api import Browser, sync_playwright

from docs.stories import copy_shop
from reverse_etl.delivery.session import open_session
from reverse_etl.engines.duckdb.seeds import load_seeds
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.report.site.page import assets, page
from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.runs.site import collect
from reverse_etl.runs.site_facts import Site, SiteRun
from reverse_etl.system.clock import Clock

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-lcd-text", "--font-render-hinting=none", "--hide-scrollbars")
BEGIN = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)  # a Monday
WIDE, NARROW = {"width": 1280, "height": 840}, {"width": 390, "height": 840}
DRAWN = {"page-attribute": ("attributes/tier", WIDE), "page-narrow": ("syncs/users_track", NARROW)}
VIEWS = (
    *("", "ill", "due", "owners", "deletes", "changes", "attributes", "attributes/tier", "attributes/spent", "events"),
    *("events/viewed_page", "syncs", "syncs/users_track", "syncs/orders", "syncs/products", "runs", "days/2026-11-24"),
    *("days/2026-11-25", "sources", "sources/model.customers", "nothing"),
)
# What docs/page.md says under "Texts for people".
TEXTS = """\
    owner: CRM team
    columns:
      - name: tier
        description: level in the loyalty program, from what was spent in a year
        show_values: true
      - {name: spent, description: "sum of all orders, in KRW", owner: Finance}
"""
# What happens to the shop on each day, before its syncs run.
DAYS: Sequence[str] = (
    "",
    "UPDATE raw_customers SET tier = 'gold' WHERE customer_id IN ('c-1002', 'c-1004', 'c-1007')",
    "ALTER TABLE raw_orders RENAME TO raw_orders_of_yesterday",  # its models cannot be run
    """ALTER TABLE raw_orders_of_yesterday RENAME TO raw_orders;
    UPDATE raw_customers SET preferences = '{"theme":' WHERE customer_id = 'c-1005'""",  # which blocks a sync
)


class ExampleClock(Clock):
    """A clock that shows the same time until it is set."""

    def __init__(self) -> None:
        self.at = BEGIN

    def utc(self) -> datetime:
        return self.at


class Silent:
    """A listener to which nothing is of interest."""

    def notice(self, sync: Any, text: str) -> None: ...

    def planning(self, sync: Any) -> Any:
        return nullcontext()

    def planned(self, sync: Any, plan: Any) -> None: ...

    def sending(self, sync: Any, plan: Any, sender: Any) -> Any:
        return nullcontext()


def example(folder: Path) -> Site:
    """What the page of the demo shop shows after some days."""
    shop, clock = folder / "shop", ExampleClock()
    shop.mkdir()
    copy_shop(ROOT, shop)
    spec = shop / "syncs.yml"
    before = "    description: profile attributes of customers\n"
    spec.write_text(spec.read_text().replace(before, before + TEXTS))
    project = _project(shop, clock)
    list(load_seeds(project.seeded, project.seeds, project.folder).items())
    for day, sql in enumerate(DAYS):
        clock.at = BEGIN + timedelta(days=day)
        with closing(duckdb.connect(str(shop / "warehouse.duckdb"))) as warehouse:
            warehouse.execute(sql or "SELECT 1")
        project = _project(shop, clock)
        catalogs = [sync for sync in project.spec.syncs if sync.catalog]
        others = [sync for sync in project.spec.syncs if not sync.catalog]
        for syncs in (catalogs, others):
            options = Options(clock=clock, create_catalog=day == 0 and syncs is catalogs)
            with open_session(project) as session:
                list(run_jobs(jobs_of(project, syncs, options, Silent()), session))
    clock.at += timedelta(minutes=5)
    return steady(collect(_project(shop, clock), HowToLook(30, 1, clock.at), version("reverse-etl")))


def _project(shop: Path, clock: Clock) -> LoadedProject:
    project = load_project(shop, environ={})
    return replace(project, started_at=clock.utc(), scheduled_time=clock.utc())


def steady(site: Site) -> Site:
    """With runs of which nothing depends on the machine."""
    return replace(
        site,
        syncs=[
            replace(sync, runs=[_steady(run, 100 * number + place) for place, run in enumerate(sync.runs)])
            for number, sync in enumerate(site.syncs)
        ],
    )


def _steady(run: SiteRun, number: int) -> SiteRun:
    return replace(
        run,
        run_id=f"{run.started_at:%Y%m%dT%H%M%S}-{0x3FA9C1 + number:06x}",
        seconds=round(0.4 + number % 7 / 10, 1),
        started_by="deploy on runner",
        commit="",
        is_dirty=False,
    )


def shots(
    browser: Browser, file: Path, at: datetime, views: Mapping[str, tuple[str, Any]], scheme: Any
) -> Iterator[tuple[str, bytes]]:
    """Pictures of views, by name. A view is its address in the page, and the size of the window."""
    for name, (view, size) in views.items():
        tab = browser.new_page(viewport=size, color_scheme=scheme)
        tab.clock.set_fixed_time(at)
        tab.goto(f"{file.as_uri()}#/{view}")
        tab.wait_for_selector("h1")
        yield name, tab.screenshot(animations="disabled", full_page=views is not DRAWN)
        tab.close()


def main(folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        site = example(Path(name))
        file = Path(name) / "index.html"
        file.write_text(page(site, assets()), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        if folder is None:
            for drawn, data in shots(browser, file, site.generated_at, DRAWN, "light"):
                (ROOT / "docs" / f"{drawn}.png").write_bytes(data)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for size in (WIDE, NARROW):
                    views = {f"{view.replace('/', '-') or 'start'}": (view, size) for view in VIEWS}
                    for shown, data in shots(browser, file, site.generated_at, views, scheme):
                        (folder / f"{shown}-{size['width']}-{scheme}.png").write_bytes(data)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
