"""What `make` installs is written down, version by version, and allowed by what a user's installation goes by."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OF_PROJECT = [
    *PROJECT["project"]["dependencies"],
    *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
]
DEVELOPMENT = [
    one
    for group in PROJECT["dependency-groups"].values()
    for one in group
    if isinstance(one, str)  # and no group that is included, which stands there itself
]


def lines(path: Path) -> list[str]:
    return [line.partition("#")[0].strip() for line in path.read_text().splitlines() if not line.startswith("#")]


INSTALLED = {
    ROOT / "constraints.txt": [*OF_PROJECT, *DEVELOPMENT, *PROJECT["build-system"]["requires"], "pip"],
    ROOT / "tests/projects/dbt/constraints.txt": lines(ROOT / "tests/projects/dbt/requirements.txt"),
    **{
        EXAMPLES / "constraints" / path.name: [*lines(path), *PROJECT["project"]["dependencies"]]
        for path in (EXAMPLES / "requirements").glob("*.txt")
    },
}


@pytest.mark.parametrize("path", INSTALLED, ids=lambda path: str(path.relative_to(ROOT)))
def test_whatever_is_installed_has_one_version_that_is_allowed(path: Path):
    pinned = dict(line.split("==") for line in lines(path))
    for requirement in map(Requirement, filter(None, INSTALLED[path])):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{path.name} has no {name}: run `make constraints`"
        assert pinned[name] in requirement.specifier, f"{path.name} has {name} {pinned[name]}: run `make constraints`"


@pytest.mark.parametrize("path", INSTALLED, ids=lambda path: str(path.relative_to(ROOT)))
def test_constraints_are_names_and_versions_and_nothing_of_where_they_came_from(path: Path):
    assert [line for line in lines(path) if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []


def test_examples_of_all_orchestrators_have_constraints():
    names = [sorted(path.name for path in (EXAMPLES / of).iterdir()) for of in ("requirements", "constraints")]
    assert names[0] == names[1]
