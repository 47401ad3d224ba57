"""What the pages say is what the code does."""

import re

import pytest

from docs.generate import PARTS, ROOT, WHOLE, generated
from reverse_etl.plan.guards import GUARDS
from reverse_etl.project.spec import Guards


@pytest.mark.parametrize("file", [*PARTS, *WHOLE])
def test_generated_parts_are_up_to_date(file: str):
    """`make docs` writes them."""
    assert (ROOT / file).read_text(encoding="utf-8") == generated(file)


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_every_guard_has_a_key_and_a_name():
    assert tuple(Guards.model_fields) == GUARDS
