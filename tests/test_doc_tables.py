"""Tables of the pages are whole: what the code has is in them, and nothing else."""

import re

import pytest

from docs import limits, tables
from docs.generate import PARTS
from reverse_etl.braze import modes
from reverse_etl.braze.modes import MODES, Mode
from reverse_etl.project.dbt_packages import PACKAGES
from reverse_etl.project.models import FUNCTIONS
from reverse_etl.sandbox.workspace import ENDPOINTS
from tests.test_docs import PAGES, text_of

WORDS = re.findall(r"^\| \*\*(.+?)\*\* \|", text_of("docs/glossary.md"), re.MULTILINE)
GENERATED = ("docs/glossary.md", "docs/errors.md", "docs/cli.md", "docs/sandbox.md")


def test_page_about_jinja_has_every_function_of_templates():
    assert sorted([*tables.FUNCTIONS, *PACKAGES]) == sorted(FUNCTIONS)


def test_page_of_limits_has_every_limit_of_braze():
    known = [name for name in vars(modes) if name.startswith("MAX_") or name == "LAST_YEAR"]
    assert sorted([*limits.OF_BRAZE, *limits.ARE_NAMES]) == sorted(known)


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: f"{mode.name} {mode.record_type or ''}".strip())
def test_permission_of_a_mode_is_the_one_that_its_endpoint_asks_for(mode: Mode):
    for call in tables.calls_of(mode):
        path = re.sub(r"\{catalog\}", "{catalog_name}", call.path)
        assert ENDPOINTS[call.method, path].scope == call.permission
        assert f"`{call.permission}`" in PARTS["docs/api-keys.md"]["permissions"]()


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
