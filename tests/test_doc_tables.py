"""Tables of the pages are whole: what the code has is in them, and nothing else."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import requests

from docs import limits, tables
from docs.generate import PARTS
from reverse_etl.braze import modes
from reverse_etl.braze.modes import MODES, Mode
from reverse_etl.project.dbt_packages import PACKAGES
from reverse_etl.project.models import FUNCTIONS
from reverse_etl.sandbox import Sandbox
from reverse_etl.sandbox.workspace import ENDPOINTS
from tests.canary import KEY
from tests.shop import Shop
from tests.test_docs import PAGES, text_of

WORDS = re.findall(r"^\| \*\*(.+?)\*\* \|", text_of("docs/glossary.md"), re.MULTILINE)
GROUP = "b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"
GENERATED = ("docs/glossary.md", "docs/errors.md", "docs/cli.md", "docs/sandbox.md")


def test_page_about_jinja_has_every_function_of_templates():
    assert sorted([*tables.FUNCTIONS, *PACKAGES]) == sorted(FUNCTIONS)


def test_code_in_pages_can_be_copied_from_the_file_as_from_the_rendered_page():
    """Nothing is escaped: of code, only `|` in a table has to be, and what is to be copied is not in a table then."""
    escaped = {page: re.findall(r"\\[_*`]", text) for page, text in ((page, text_of(page)) for page in PAGES)}
    assert {page: found for page, found in escaped.items() if found} == {}
    page = text_of("docs/dbt.md")
    assert [sql for macros in PACKAGES.values() for sql in macros.values() if f"`{sql}`" not in page] == []


def test_page_of_limits_has_every_limit_of_braze():
    known = [name for name in vars(modes) if name.startswith("MAX_") or name == "LAST_YEAR"]
    assert sorted([*limits.OF_BRAZE, *limits.ARE_NAMES]) == sorted(known)


def ids(mode: Mode) -> str:
    return f"{mode.name} {mode.record_type or ''}".strip()


@pytest.mark.parametrize("mode", MODES.values(), ids=ids)
def test_permission_of_a_mode_is_the_one_that_its_endpoint_asks_for(mode: Mode):
    for call in tables.calls_of(mode):
        path = re.sub(r"\{catalog\}", "{catalog_name}", call.path)
        assert ENDPOINTS[call.method, path].scope == call.permission
        assert f"`{call.permission}`" in PARTS["docs/api-keys.md"]["permissions"]()


# A model for each mode, and what its sync needs besides.
DESTRUCTIVE = {"allow_destructive": True}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "users_track attributes": ("SELECT 'u1' AS external_id, {n} AS points", {}),
    "users_track events": ("SELECT 'u1' AS external_id, 'seen {n}' AS name, DATE '2026-11-01' AS time", {}),
    "users_track purchases": (
        "SELECT 'u1' AS external_id, 'mug' AS product_id, 'EUR' AS currency, {n} AS price, DATE '2026-11-01' AS time",
        {},
    ),
    "users_alias_new": ("SELECT 'a{n}' AS alias_name, 'web' AS alias_label", {}),
    "users_identify": ("SELECT 'u{n}' AS external_id, 'a{n}' AS alias_name, 'web' AS alias_label", {}),
    "users_delete": ("SELECT 'u{n}' AS external_id", DESTRUCTIVE),
    "users_merge": ("SELECT 'u{n}' AS external_id, 'u0' AS keep_external_id", DESTRUCTIVE),
    "users_alias_update": ("SELECT 'web' AS alias_label, 'a{n}' AS old_alias_name, 'b{n}' AS new_alias_name", {}),
    "users_external_ids_rename": ("SELECT 'u{n}' AS current_external_id, 'v{n}' AS new_external_id", {}),
    "users_external_ids_remove": ("SELECT 'u{n}' AS external_id", DESTRUCTIVE),
    "subscription_status_set": (
        f"SELECT 'u{{n}}' AS external_id, '{GROUP}' AS subscription_group_id, 'unsubscribed' AS subscription_state",
        {},
    ),
    "catalog_items": (
        "SELECT 'mug' AS id, {n} AS price, 'Mug' AS title UNION ALL SELECT 'cup{n}', 1, 'Cup'",
        {"catalog": "shop", "on_removed": "delete", **DESTRUCTIVE, "guards": {"max_removed": "100%"}},
    ),
}


def with_permissions(folder: Path, mode: Mode, allowed: Collection[str]) -> str:
    """The status of the second of two runs with an API key that has these permissions: new, changed and removed rows."""
    sql, options = MODELS[ids(mode)]
    kind = {"track_record_type": mode.record_type} if mode.record_type else {}
    with Sandbox(keys={KEY: {*allowed, "nothing"}, "owner-of-the-catalog": {"*"}}) as braze:
        if "catalog" in options:
            fields = [{"name": "id", "type": "string"}, {"name": "price", "type": "number"}]
            catalog = {"name": "shop", "description": "-", "fields": [*fields, {"name": "title", "type": "string"}]}
            owner = {"Authorization": "Bearer owner-of-the-catalog"}
            requests.post(f"{braze.url}/catalogs", json={"catalogs": [catalog]}, headers=owner).raise_for_status()
        shop = Shop(folder, braze)
        for n in (1, 2):
            shop.sync("it", sql.format(n=n), mode=mode.name, **kind, **options)
            result = shop.run("it")
        return result.status


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES.values(), ids=ids)
def test_mode_needs_each_permission_of_the_page_and_no_other(mode: Mode, tmp_path: Path):
    listed = {call.permission for call in tables.calls_of(mode)}
    assert with_permissions(tmp_path / "all", mode, listed) in ("success", "incomplete")  # some users are not there
    for permission in listed:
        assert with_permissions(tmp_path / permission, mode, listed - {permission}) in ("failed", "blocked"), permission


def test_glossary_is_in_order_and_has_each_word_once():
    assert len(WORDS) > 50
    assert sorted(WORDS) == WORDS
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_word_of_the_glossary_is_used_on_other_pages(word: str):
    stem = word.removesuffix("e") if word in ("erase", "prune") else word
    others = [page for page in PAGES if page not in GENERATED and page != "CHANGELOG.md"]
    written = stem.replace(" ", "[ _]")
    assert [page for page in others if re.search(rf"\b{written}", text_of(page), re.IGNORECASE)] != []
