"""What the pages say is what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from docs.generate import PARTS, ROOT, STORIES, WHOLE, generated
from reverse_etl.plan.guards import GUARDS
from reverse_etl.project.spec import Guards

PAGES = [path.relative_to(ROOT).as_posix() for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))]


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def _marked(file: str) -> Any:
    """Pages and pictures with long stories that are run for them."""
    is_long = file in ("README.md", "docs/pull-request.md", *STORIES) or file.startswith("docs/terminal-")
    return pytest.param(file, marks=pytest.mark.long) if is_long else file


@pytest.mark.parametrize("file", [_marked(file) for file in dict.fromkeys([*PARTS, *STORIES, *WHOLE])])
def test_generated_parts_are_up_to_date(file: str, tools: Path, monkeypatch: pytest.MonkeyPatch):
    """`make docs` writes them."""
    monkeypatch.setattr(generate, "TOOLS", tools)
    assert text_of(file) == generated(file)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading(page: str):
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text_of(page)) if not target.startswith("http")]
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def leads_somewhere(page: str, target: str) -> bool:
    file, _, anchor = target.partition("#")
    path = (ROOT / page).parent / file if file else ROOT / page
    return path.exists() and (not anchor or anchor in anchors(path.read_text(encoding="utf-8")))


def anchors(text: str) -> list[str]:
    """The names that GitHub gives to the headings of a page."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_index_lists_every_page_in_one_line():
    listed = re.findall(r"^\* \[[^]]+\]\((\S+)\): .*\.$", text_of("docs/index.md"), re.MULTILINE)
    assert sorted(f"docs/{name}" for name in listed) == [
        page for page in PAGES if page.startswith("docs/") and page != "docs/index.md"
    ]


def test_readme_is_an_introduction():
    """What is looked up is in docs/reference.md."""
    assert len(text_of("README.md").splitlines()) <= 150


def test_contributing_names_every_command_of_make_that_checks_or_writes_something():
    described = re.findall(r"^([a-z-]+):.*##", text_of("Makefile"), re.MULTILINE)
    assert [name for name in described if not re.search(rf"make {name}\b(?!-)", text_of("CONTRIBUTING.md"))] == []


def test_tests_that_need_dbt_are_in_the_files_that_make_collects_for_them():
    """To collect all others, too, takes longer than some of these."""
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if re.search(r"mark\.dbt$", path.read_text(), re.M)]
    listed = re.findall(r"\S+\.py", text_of("Makefile").partition("-m dbt")[2].splitlines()[0])
    assert sorted(path.relative_to(ROOT).as_posix() for path in marked) == listed


def test_every_guard_has_a_key_and_a_name():
    assert tuple(Guards.model_fields) == GUARDS
